"""Saved models at work: from a recording to an answer."""
