"""Kernels: arrays in, arrays out. Nothing here knows of tensors, layers or gradients.

`contract.py` says what each kernel computes; `reference/` is the textbook version in NumPy, the oracle of all others.
"""
