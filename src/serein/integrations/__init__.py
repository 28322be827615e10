"""serein inside other frameworks; each module needs the framework of its name."""
