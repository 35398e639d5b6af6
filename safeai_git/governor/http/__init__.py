"""The Governor's HTTP API. What it decides lives in the services; here it is read, guarded, counted and answered."""
