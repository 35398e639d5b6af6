"""The only door to git: object stores, refs, the index, notes. Everything above it sees facts."""
