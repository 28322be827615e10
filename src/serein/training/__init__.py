"""Training: one visible loop, its course on disk, and how it goes on after an interruption."""
