"""HTTP service of `serein serve`. Only this package imports FastAPI, uvicorn and Prometheus."""
