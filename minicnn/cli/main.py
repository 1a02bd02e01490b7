"""Arguments of the command line, and the way to each command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from minicnn.applications import NETWORKS
from minicnn.backend import all_backends
from minicnn.version import __version__

_DATASETS = ("sample", "mnist", "fashion_mnist", "cifar10")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="minicnn", description="Train convolutional networks, and see how they work.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network on pictures, save it and show what it learned")
    train.add_argument(
        "--dataset", choices=_DATASETS, default="sample", help="sample: the 10,000 digits that come along (%(default)s)"
    )
    train.add_argument("--data", metavar="FOLDER", help="where the dataset's files lie, if not in the usual places")
    train.add_argument(
        "--model", metavar="NAME", default="first_convnet", help=f"one of {', '.join(NETWORKS)} (%(default)s)"
    )
    train.add_argument(
        "--epochs", metavar="N", type=_positive, default=5, help="times through the training pictures (%(default)s)"
    )
    train.add_argument("--batch-size", metavar="N", type=_positive, default=64, help="pictures a step (%(default)s)")
    train.add_argument("--optimizer", metavar="NAME", default="rmsprop", help="sgd, adam, ... (%(default)s)")
    train.add_argument("--learning-rate", metavar="RATE", type=float, help="the optimizer's own where left out")
    train.add_argument(
        "--validation-split",
        metavar="SHARE",
        type=float,
        default=0.1,
        help="share of the training pictures to watch instead of train on (%(default)s)",
    )
    train.add_argument(
        "--backend", metavar="NAME", help=f"which kernels compute: {', '.join(all_backends())} (the one in force)"
    )
    train.add_argument("--seed", metavar="N", type=int, default=1, help="of weights, shuffles, dropout (%(default)s)")
    train.add_argument(
        "--output",
        metavar="FOLDER",
        default="runs/digits",
        help="where the model, the history and pictures go (%(default)s)",
    )

    predict = commands.add_parser("predict", help="read pictures with a trained network")
    predict.add_argument("model", help="a .keras file that `minicnn train` saved")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    predict.add_argument("--top", type=_positive, default=3, metavar="N", help="how many guesses to show (%(default)s)")

    check = commands.add_parser("gradcheck", help="check the gradients of one operation or of all")
    check.add_argument("operation", nargs="?", help="a function of minicnn.functional; all where left out")

    commands.add_parser("info", help="versions, backends, threads, BLAS")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. A mistake in arguments or files is told in a line, without a trace."""
    options = build_parser().parse_args(arguments)
    command = importlib.import_module(f"minicnn.cli.{options.command}")
    try:
        return int(command.run(options))
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"minicnn {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minicnn {options.command}: stopped", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value
