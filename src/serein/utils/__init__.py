"""Files, hashes, devices, processes: what every other package may use."""
