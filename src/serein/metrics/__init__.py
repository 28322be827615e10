"""Metrics as pure functions of true and predicted values."""
