"""Commands that build data sets: import, build ghi, build laion, union and inspect."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humansd.cli.arguments import Group, add_estimator


def add(group: Group) -> None:
    """Adds them to the group `data`."""
    _add_import(group.command("import", "your images, in any layout, as shards; resumable", _import))
    builds = group.group("build", "data sets from prompts or from addresses")
    _add_ghi(builds.command("ghi", "prompts, images by a model, and the best of what has whole people", _ghi))
    _add_laion(builds.command("laion", "a list of addresses and captions (parquet), downloaded and filtered", _laion))
    _add_union(group.command("union", "several data sets mixed into one", _union))
    _add_inspect(group.command("inspect", "what a data set holds, as numbers and as an HTML page", _inspect))


def _add_running(sub: argparse.ArgumentParser, per_shard: int) -> None:
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the data set; the same command goes on")
    sub.add_argument("--per-shard", type=int, default=per_shard, help=f"samples of a shard (default: {per_shard})")
    sub.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    sub.add_argument(
        "--engine", default="local", choices=("local", "ray"), help="ray: several machines (default: local)"
    )


def _running(args: argparse.Namespace) -> dict[str, Any]:
    return {"per_shard": args.per_shard, "workers": args.workers, "engine": args.engine}


def _add_nsfw(sub: argparse.ArgumentParser, default: str) -> None:
    sub.add_argument("--nsfw", default=default, metavar="CHECKER", help="open-nsfw, auto (where installed) or none")


def _checker(name: str) -> str:
    from humansd.build.safety import default_checker

    return default_checker() if name == "auto" else "" if name == "none" else name


def _add_import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("path", metavar="PATH", help="folder, metadata.jsonl, JSON of poses, or .tar; see the guide")
    sub.add_argument("--images", type=Path, metavar="DIR", help="where the images of a JSON file are, if not beside it")
    _add_running(sub, 500)
    add_estimator(sub)
    sub.add_argument("--redetect", action="store_true", help="find poses anew, also where the files have them")
    sub.add_argument("--captioner", default="", metavar="NAME=FOLDER_OR_ID", help="who writes missing captions")
    sub.add_argument("--scene", default="", help="of images that name none, such as photo")
    sub.add_argument("--origin", default="", metavar="TEXT", help="where the images come from (default: the folder)")
    sub.add_argument("--license", default="", help="under which the images may be used, where the files do not say")
    sub.add_argument("--keep-empty", action="store_true", help="keep images with nobody in them")
    sub.add_argument("--shortest", type=int, default=64, metavar="PX", help="a shorter side is left out (default: 64)")
    sub.add_argument("--max-side", type=int, default=2048, metavar="PX", help="longer sides are shrunk (default: 2048)")
    sub.add_argument("--downsample", type=int, default=1, metavar="N", help="all N times smaller (default: 1)")
    sub.add_argument(
        "--near", type=int, metavar="BITS", help="leave out images whose hashes differ by so little (0-15)"
    )
    sub.add_argument("--without-minors", action="store_true", help="leave out captions that speak of minors")
    sub.add_argument("--device", default="cpu", help="of the estimator and the captioner (default: cpu)")
    _add_nsfw(sub, "none")


def _import(args: argparse.Namespace) -> None:
    from humansd.build.importing import ImportOptions, import_dataset

    captioner, _, weights = args.captioner.partition("=")
    options = ImportOptions(
        estimator=args.estimator if args.estimator != "none" else "",
        weights=args.source,
        device=args.device,
        redetect=args.redetect,
        captioner=captioner,
        captioner_weights=weights,
        scene=args.scene,
        source=args.origin,
        license=args.license,
        keep_empty=args.keep_empty,
        shortest=args.shortest,
        max_side=args.max_side,
        downsample=args.downsample,
        near=args.near,
        nsfw=_checker(args.nsfw),
        minors=args.without_minors,
    )
    _say(import_dataset(args.path, args.out, options, images=args.images, **_running(args)), args.out)


def _add_ghi(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--count", type=int, required=True, help="pairs that are kept")
    sub.add_argument("--model", default="pocket", help="pocket, or a folder or hub id of diffusers (default: pocket)")
    _add_running(sub, 200)
    add_estimator(sub)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--steps", type=int, default=0, help="denoising steps (default: as the model says)")
    sub.add_argument("--guidance", type=float, default=0.0, help="by the text (default: as the model says)")
    sub.add_argument("--size", type=int, default=0, help="px of a side (default: as the model says)")
    sub.add_argument("--share", type=float, default=0.3, help="the best so many of what passes (default: 0.3)")
    sub.add_argument("--integrity", type=float, default=0.6, help="share of a body that is seen (default: 0.6)")
    sub.add_argument("--quality", default="certainty-sharpness", help="certainty or certainty-sharpness (default)")
    sub.add_argument("--pool", type=int, default=64, help="images of which the best are chosen (default: 64)")
    sub.add_argument("--batch", type=int, default=8, help="images drawn at once (default: 8)")
    sub.add_argument("--license", default="", help="of what the model draws")
    sub.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    _add_nsfw(sub, "auto")


def _ghi(args: argparse.Namespace) -> None:
    from humansd.build.ghi import GhiOptions, build_ghi

    options = GhiOptions(
        model=args.model,
        estimator=args.estimator,
        seed=args.seed,
        steps=args.steps,
        guidance=args.guidance,
        size=args.size,
        device=args.device,
        weights=args.source,
        integrity=args.integrity,
        quality=args.quality,
        share=args.share,
        pool=args.pool,
        nsfw=_checker(args.nsfw),
        license=args.license,
    )
    _say(build_ghi(args.count, args.out, options, batch_size=args.batch, **_running(args)), args.out)


def _add_laion(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("addresses", metavar="PARQUET", help="file or folder with columns url, caption (and key, sha256)")
    _add_running(sub, 500)
    add_estimator(sub)
    sub.add_argument("--shortest", type=int, default=256, metavar="PX", help="of a side (default: 256)")
    sub.add_argument("--aspect", type=float, default=3.0, help="of the sides, at most (default: 3)")
    sub.add_argument("--max-side", type=int, default=1024, metavar="PX", help="longer sides are shrunk (default: 1024)")
    sub.add_argument("--confidence", type=float, default=0.02, help="of the surest person, above (default: 0.02)")
    sub.add_argument("--most-people", type=int, default=0, help="of an image (default: any number)")
    sub.add_argument("--near", type=int, default=3, metavar="BITS", help="of hashes of duplicates, 0-15 (default: 3)")
    sub.add_argument("--timeout", type=float, default=20.0, metavar="S", help="of one try, all of it (default: 20)")
    sub.add_argument("--tries", type=int, default=3, help="of an address in one run (default: 3)")
    sub.add_argument("--pause", type=float, default=0.5, metavar="S", help="before the second try (default: 0.5)")
    sub.add_argument("--per-host", type=int, default=4, help="connections to one host at once (default: 4)")
    sub.add_argument("--at-once", type=int, default=64, help="connections at once (default: 64)")
    sub.add_argument("--allow-private", action="store_true", help="also ask addresses of private networks")
    sub.add_argument("--with-minors", action="store_true", help="keep captions that speak of minors")
    sub.add_argument("--license", default="", help="of the images, if they share one")
    sub.add_argument("--device", default="cpu", help="of the estimator (default: cpu)")
    _add_nsfw(sub, "auto")


def _laion(args: argparse.Namespace) -> None:
    from humansd.build.fetch import Fetch
    from humansd.build.laion import LaionOptions, build_laion

    fetch = Fetch(
        timeout_s=args.timeout,
        tries=args.tries,
        pause_s=args.pause,
        per_host=args.per_host,
        at_once=args.at_once,
        private=args.allow_private,
    )
    options = LaionOptions(
        fetch=fetch,
        estimator=args.estimator if args.estimator != "none" else "",
        weights=args.source,
        device=args.device,
        shortest=args.shortest,
        aspect=args.aspect,
        max_side=args.max_side,
        confidence=args.confidence,
        most_people=args.most_people,
        near=args.near,
        nsfw=_checker(args.nsfw),
        minors=not args.with_minors,
    )
    _say(build_laion(args.addresses, args.out, options, license=args.license, **_running(args)), args.out)


def _add_union(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("parts", nargs="+", metavar="SHARDS[=WEIGHT]", help="data sets and their shares (default: 1 each)")
    _add_running(sub, 500)
    sub.add_argument("--count", type=int, default=0, help="samples (default: as many as all have together)")
    sub.add_argument("--seed", type=int, default=0)


def _union(args: argparse.Namespace) -> None:
    from humansd.build.union import build_union, parse_part

    parts = [parse_part(text) for text in args.parts]
    _say(build_union(parts, args.out, count=args.count, seed=args.seed, **_running(args)), args.out)


def _add_inspect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shards", metavar="SHARDS", help="folder, .tar file or quoted glob")
    sub.add_argument("--page", type=Path, metavar="HTML", help="also write a page with images")
    sub.add_argument("--n", type=int, default=48, help="samples on the page (default: 48)")
    sub.add_argument("--json", action="store_true", help="the numbers as JSON")


def _inspect(args: argparse.Namespace) -> None:
    import json

    from humansd.build.inspection import inspect_shards, report

    found = inspect_shards(args.shards, args.page, sheet=args.n)
    print(json.dumps(found.to_json(), indent=1) if args.json else report(found))


def _say(manifest: Mapping[str, Any], out: Path) -> None:
    from humansd.build.importing import told

    shards, failed = len(manifest["shards"]), len(manifest["build"]["failed"])
    print(f"{manifest['count']} samples in {shards} shards in {out}; left out: {told(manifest)}")
    if failed:
        print(f"{failed} of them may be had later: the same command asks for them again")
