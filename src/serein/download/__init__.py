"""A user's copies of corpora: whether they are whole, and how to get those that may be had freely.

``hashes/<corpus>.sha256`` holds a line for each recording as its owners publish it: its SHA-256,
sometimes its bytes, and its path. ``archives.toml`` says where archives lie.
"""
