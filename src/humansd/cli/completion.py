"""The command that prints what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse

from humansd.cli.arguments import Group

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Group) -> None:
    """completion."""
    text = 'print the completion of a shell: eval "$(humansd completion bash)"'
    sub = commands.command("completion", text, _completion)
    sub.add_argument("shell", choices=SHELLS)


def _completion(args: argparse.Namespace) -> None:
    import shtab

    from humansd.cli import build_parser

    print(shtab.complete(build_parser(), args.shell))
