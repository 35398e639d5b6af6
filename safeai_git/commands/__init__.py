"""What each command does, once its arguments are parsed. Each function returns 0 or 1 and raises everything else."""
