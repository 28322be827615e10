"""A saved model over HTTP: `serein serve`. FastAPI and its kin are imported here alone."""
