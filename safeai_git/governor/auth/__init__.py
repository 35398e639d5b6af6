"""Who asks, and what they may: bearer tokens, CI tokens, client certificates."""
