"""The command `minicnn`: train, predict, gradcheck, info."""

from minicnn.cli.main import main

__all__ = ["main"]
