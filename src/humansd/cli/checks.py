"""Mistakes in arguments that are answered before torch is imported, which takes seconds.

Each check is made again where the argument is used; here it only comes sooner.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from humansd.core.numbers import LEAST_STRENGTH, real, whole
from humansd.inference.words import check_tags

POSE_SUFFIXES = (".json", ".npz")  # those that are read at once; photographs need an estimator
LARGEST_READ = 20_000_000  # bytes of a pose file that is read twice


def check_generate(args: argparse.Namespace) -> None:
    """What `generate` was given. Raises the errors of the functions that it calls later."""
    if bool(args.prompts) == (args.prompt_table is not None):
        raise ValueError("give a PROMPT or a table with --prompts FILE.csv, one of them")
    if not all(prompt.strip() for prompt in args.prompts):
        raise ValueError("the prompt is empty; say what the image shows, for example 'photo, a woman running'")
    check_tags(args.prompts)
    for name in ("n", "batch_size"):
        if getattr(args, name) is not None:
            whole(name, getattr(args, name))
    if not 0 <= args.seed <= 2**63 - 1 - (args.n or 4):
        raise ValueError(f"seed is {args.seed}; it must be from 0 to {2**63 - 1} less the number of images")
    if args.image is None and (args.mask or args.strength is not None):
        raise ValueError("--mask and --strength belong to an image; name it with --image")
    if args.strength is not None:
        real("strength", args.strength, LEAST_STRENGTH, 1)
    if len(args.prompts) > 1 and all(prompt.split()[1:] == [] for prompt in args.prompts):
        warnings.warn(f"{len(args.prompts)} prompts of one word each; a sentence stands in quotes", stacklevel=1)
    check_model(args.model, (source for source, _ in args.lora), args.embedding)
    check_drawing(args)
    check_estimator(args.estimator)
    check_poses(args)
    check_there("--prompts", args.prompt_table)
    if args.prompt_table is not None:
        from humansd.inference.prompt_table import read_prompt_table
        from humansd.inference.sampling import DEFAULT_SAMPLING

        read_prompt_table(args.prompt_table, DEFAULT_SAMPLING)
    check_there("--image", args.image)
    check_there("--mask", Path(args.mask) if args.mask not in ("", "pose") else None)


def check_runs(folders: Iterable[Path]) -> None:
    """Whether `humansd evaluate` wrote these."""
    for folder in folders:
        if not (folder / "settings.json").is_file():
            raise ValueError(f"{folder}: no settings.json; name a folder that `humansd evaluate --out` wrote")


def say_loading(model: str) -> None:
    """A word for whoever waits at a terminal: torch and a model take seconds, a large one minutes."""
    if sys.stderr.isatty():
        print(f"humansd: loading {model} ...", file=sys.stderr, flush=True)


def check_model(model: str, loras: Iterable[str] = (), embeddings: Iterable[str] = ()) -> None:
    """Whether a model, LoRAs and textual inversions can be meant by these names."""
    from humansd.models.names import SHIPPED, check_model_name, check_weights_file, weights_folder

    if model in SHIPPED:
        weights_folder(model)
    else:
        check_model_name(model)
    for source in loras:
        check_weights_file(source, "LoRA")
    for source in embeddings:
        check_weights_file(source, "textual inversion")


def check_drawing(args: argparse.Namespace) -> None:
    """Whether a model that is here has the variant and decoder, and draws images of the size, as its files say."""
    from humansd.inference.variants import choose_variant
    from humansd.models.names import SHIPPED, weights_folder
    from humansd.pipelines.sizes import check_size, stored_sizes

    folder = weights_folder(args.model) if args.model in SHIPPED else Path(args.model).expanduser()
    choose_variant(str(folder), args.variant, args.decoder, alone=bool(args.method or args.pose_network))
    known = stored_sizes(folder)
    if known is not None and args.size is not None and args.image is None:
        check_size(known, *args.size)


def check_estimator(spec: str) -> None:
    """ValueError where NAME or NAME=SOURCE is none of the estimators."""
    from humansd.models.estimators import estimator_name

    estimator_name(spec.partition("=")[0])


def check_poses(args: argparse.Namespace) -> None:
    """Whether `--pose` is there, and can be read where it is one file of key points."""
    path: Path = args.pose
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; --pose takes a pose file or a folder of them")
    if path.suffix.lower() not in POSE_SUFFIXES or not path.is_file() or path.stat().st_size > LARGEST_READ:
        return
    if args.pose_kind == "skeleton":
        return  # refused later, in words of its own
    from humansd.pose.formats import read_poses

    with warnings.catch_warnings(), contextlib.suppress(RecursionError):
        warnings.simplefilter("ignore")  # they are given when it is read for good
        read_poses(path, canvas=args.canvas, units=args.units, joints=args.joints)


def check_there(option: str, path: Path | None) -> None:
    """FileNotFoundError where a file or folder is named and not there."""
    if path is not None and not path.exists():
        raise FileNotFoundError(f"{option} {path}: no such file or folder")
