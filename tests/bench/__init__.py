"""Benchmarks that stay in the project: each prints its peer or its limit beside the figure. See docs/benchmarks.md."""
