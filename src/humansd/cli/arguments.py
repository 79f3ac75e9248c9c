"""How commands are added, and arguments that several of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from humansd.pipelines.generate import Sampling


class Group:
    """Commands of one level; each sets `run` to the function that carries it out."""

    def __init__(self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
        self._commands, self._common = parser.add_subparsers(metavar="COMMAND", required=True), common

    def command(self, name: str, text: str, run: Callable) -> argparse.ArgumentParser:
        """A command; its arguments are added to what this returns."""
        sub = self._commands.add_parser(name, help=text, description=text, parents=[self._common])
        sub.set_defaults(run=run)
        return sub

    def group(self, name: str, text: str) -> Group:
        """A command that has commands itself."""
        return Group(self._commands.add_parser(name, help=text), self._common)


def add_estimator(sub: argparse.ArgumentParser) -> None:
    """What finds people in photographs; its names are checked when it is loaded, as listing them takes seconds."""
    sub.add_argument(
        "--estimator", default="higherhrnet", metavar="NAME", help="finds people in photos (default: higherhrnet)"
    )
    sub.add_argument("--source", default="", metavar="FOLDER_OR_ID", help="its weights, if not those that ship")


def add_sampling(sub: argparse.ArgumentParser) -> None:
    """How pictures are drawn; `sampling_of` reads it."""
    sub.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    sub.add_argument("--guidance", type=float, help="how closely to follow the text (default: as the model says)")
    sub.add_argument(
        "--pose-guidance",
        type=float,
        help="how closely to follow the pose; not 1 costs time (default: as the model says)",
    )
    sub.add_argument("--negative", default="", metavar="TEXT", help="what the pictures should not show")


def sampling_of(args: argparse.Namespace) -> Sampling:
    """What `add_sampling` was given."""
    from humansd.pipelines.generate import Sampling

    return Sampling(args.steps, args.guidance, args.pose_guidance, args.negative)


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels from WxH."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write width x height in pixels, like 640x480")
    return int(width), int(height)


def setting(text: str) -> tuple[str, str]:
    """Key and value from KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write KEY=VALUE, like steps=1000")
    return key, value
