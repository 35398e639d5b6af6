"""safeai-git: limits, evidence and a stop button for commits that AI agents write."""

__version__ = "0.1.0"
