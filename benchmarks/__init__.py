"""Ours beside a peer, in one run: medians and ratios. `make bench` writes docs/benchmarks.md."""
