"""The command line: parses, calls one function of a room, prints. Each command imports its room itself."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from humansd import __version__
from humansd.cli import (
    benchmarks,
    completion,
    convert,
    data,
    draw,
    measure,
    poses,
    reproduce,
    studio,
    train,
    words,
)
from humansd.cli.arguments import Group
from humansd.cli.logs import show_logs
from humansd.cli.near_misses import Parser
from humansd.core.allocation import keep_memory

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# What a user can put right: shown as one line. Anything else is a fault of ours and shows where it happened.
USER_ERRORS = (ValueError, OSError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 2 a mistake the user can mend, 130 interrupted."""
    try:
        try:
            return _run(build_parser().parse_args(argv))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a short output is written here, and not when Python ends
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    keep_memory()
    show_logs()
    warnings.showwarning = _show_warning
    warnings.filterwarnings("ignore", message="__array__ implementation")  # of libraries among themselves
    logging.getLogger("transformers.utils.import_utils").addFilter(_helps_a_user)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("humansd: stopped. Long commands go on where they were when given again.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except USER_ERRORS as error:
        if arguments.debug:
            raise
        print(f"humansd: {_one_line(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; each sets `run` to the function that carries it out."""
    parser = Parser(prog="humansd", description="Images of people in given poses, from a sentence and a skeleton.")
    parser.add_argument("--version", action="version", version=f"humansd {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error happened")
    commands = Group(parser, common)
    for module in (draw, words, studio, poses, measure, train, reproduce, data, convert, benchmarks, completion):
        module.add(commands)
    return parser


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _helps_a_user(record: logging.LogRecord) -> bool:
    """Not that image processors, which diffusers imports and nothing here uses, do without torchvision."""
    return "torchvision (not installed)" not in record.getMessage()


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"humansd: note: {' '.join(str(message).split())}", file=sys.stderr)
