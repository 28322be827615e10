"""Compare serein with peers in one run: medians and ratios. `make bench` writes the table."""
