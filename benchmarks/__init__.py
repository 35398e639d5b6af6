"""Measurements against references in the same run. Nothing here is a test."""
