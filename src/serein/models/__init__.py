"""Models: one file a paper, each with a ``Config`` dataclass and a ``Model``."""
