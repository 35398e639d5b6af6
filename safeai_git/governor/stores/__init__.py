"""Where the log is kept: one port, and what stands behind it."""
