"""Tasks: head, loss and decoding of one label; a ``Config`` dataclass and a ``Task`` each."""
