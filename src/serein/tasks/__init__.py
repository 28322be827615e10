"""Tasks: head, loss and decoding of one label; each file has a ``Config`` and a ``Task``."""
