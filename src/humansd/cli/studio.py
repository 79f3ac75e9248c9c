"""The command that serves the studio."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, add_estimator
from humansd.core.allocation import keep_memory


def add(commands: Group) -> None:
    """studio."""
    sub = commands.command("studio", "draw poses on a page, and serve images over HTTP", _studio)
    sub.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]MODEL",
        help="pocket, a folder or a hub id; repeatable; one NAME with several methods is one model",
    )
    sub.add_argument(
        "--method",
        type=_network,
        action="append",
        default=[],
        metavar="NAME:METHOD=NETWORK",
        help="the model NAME, a plain Stable Diffusion, also with this ControlNet or the like; repeatable",
    )
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, which only this machine reaches")
    sub.add_argument("--port", type=int, default=8188, help="default: 8188")
    sub.add_argument("--api-key-file", type=Path, metavar="FILE", help="keys, one a line; needed for other hosts")
    sub.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name of this server")
    sub.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="a page that may ask; repeatable"
    )
    sub.add_argument(
        "--device", action="append", default=[], help="such as cuda:0 or cpu; repeated: one worker each (default: auto)"
    )
    sub.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    add_estimator(sub, default="")
    sub.add_argument("--state", default=None, metavar="FOLDER", help="where accepted jobs are kept")
    sub.add_argument(
        "--content-filter",
        default="auto",
        choices=("auto", "on", "off"),
        help="auto: full-scale models, where humansd[nsfw] is installed (default); on: all models",
    )
    sub.add_argument(
        "--ray", type=int, default=0, metavar="N", help="draw in N replicas of Ray Serve (humansd[studio-ray])"
    )
    sub.add_argument("--log-prompts", action="store_true", help="write prompts to the log (default: not)")
    sub.add_argument("--queue", type=int, default=256, help="images that may wait (default: 256)")
    sub.add_argument("--queue-per-key", type=int, default=64, help="of one API key (default: 64)")
    sub.add_argument("--batch-size", type=int, default=8, help="images drawn at once (default: 8)")


def _studio(args: argparse.Namespace) -> None:
    from humansd.studio.security import read_keys
    from humansd.studio.serve import serve
    from humansd.studio.settings import Limits, StudioSettings, default_state

    if args.ray < 0:
        raise ValueError(f"--ray is {args.ray}; it must be 0 or more")
    for name in ("queue", "queue_per_key", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be 1 or more")
    settings = StudioSettings(
        models=tuple(_named(text) for text in args.model or ["pocket"]),
        devices=tuple(args.device or ["auto"]),
        dtype=args.dtype,
        host=args.host,
        port=args.port,
        state=str(default_state() if args.state is None else args.state),
        keys=read_keys(args.api_key_file) if args.api_key_file else frozenset(),
        allowed_hosts=tuple(args.allow_host),
        allowed_origins=tuple(args.allow_origin),
        networks=tuple(args.method),
        own_processes=True,
        ray=args.ray,
        content_filter=args.content_filter,
        log_prompts=args.log_prompts,
        estimator=args.estimator,
        estimator_source=args.source,
        limits=Limits(queue=args.queue, queue_per_key=min(args.queue, args.queue_per_key), batch=args.batch_size),
    )
    serve(settings, print, keep_memory)


def _network(text: str) -> tuple[str, str, str]:
    """Name, method and network from NAME:METHOD=NETWORK."""
    left, equals, network = text.partition("=")
    name, colon, method = left.rpartition(":")
    if not (equals and colon and name and method and network):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME:METHOD=NETWORK, like sd15:controlnet=FOLDER")
    return name, method, network


def _named(text: str) -> tuple[str, str]:
    """NAME=MODEL, or a model whose name is its last part."""
    name, equals, source = text.partition("=")
    return (name, source) if equals else (Path(text).name, text)
