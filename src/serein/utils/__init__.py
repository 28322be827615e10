"""Files, hashes, devices and processes, for use by all other packages."""
