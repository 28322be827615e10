"""Experiments: recipe and corpus to folds, to trained systems, to results that can be believed."""
