"""``safeai doctor``: whether a Governor could serve with these settings, and what is wrong where."""
