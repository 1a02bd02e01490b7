"""Benchmarks of minicnn against other frameworks and the machine's limits: `python -m benchmarks --help`."""
