"""The Governor: the central server. Nothing on the client's path imports it."""
