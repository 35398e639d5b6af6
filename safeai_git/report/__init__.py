"""Judgements as text and as data: pure functions from values to strings."""
