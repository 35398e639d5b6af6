"""``safeai audit forward``: the log's entries, each at least once and in order, into somebody else's system."""
