"""Scores as pure functions: truth and prediction in, a float out."""
