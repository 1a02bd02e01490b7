"""Bugs planted in the texts of the CUDA kernels, and the checks that must find them: see tests/gpu/test_mutants.py."""
