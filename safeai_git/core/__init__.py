"""The pure core: facts in, verdict out. No clock, network, disk, environment or randomness."""
