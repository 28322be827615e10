"""Evaluation of recipes on corpora: folds, training, scores, searches, and final models."""
