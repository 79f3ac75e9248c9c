"""The command that lists what a model can be told."""

from __future__ import annotations

import argparse

from humansd.cli.arguments import Group
from humansd.cli.checks import check_model


def add(commands: Group) -> None:
    """words."""
    sub = commands.command("words", "list the scenes, places, garments, colors and actions that a model knows", _words)
    sub.add_argument("--model", default="pocket", help="pocket, or a folder (default: pocket)")


def _words(args: argparse.Namespace) -> None:
    from humansd.inference.words import word_lists

    check_model(args.model)
    print(word_lists(args.model))
