"""The client's side of the Governor."""
