"""Download corpora that are freely available, and verify the integrity of a copy of a corpus.

``hashes/<corpus>.sha256`` has one line for each published recording: its SHA-256, its size in bytes
(optional) and its path. ``archives.toml`` lists the archives that can be downloaded.
"""
