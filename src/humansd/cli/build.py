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


def _add_models(sub: argparse.ArgumentParser) -> None:
    """Who looks at the images, and what they may be used for."""
    add_estimator(sub)
    sub.add_argument("--device", default="cpu", help="of the models, such as cuda (default: cpu)")
    sub.add_argument("--nsfw", default="auto", help="open-nsfw, auto (where installed) or none (default: auto)")
    sub.add_argument("--license", default="", help="of the images, where nothing else names one")


def _models(args: argparse.Namespace) -> dict[str, Any]:
    from humansd.build.safety import default_checker

    return {
        "estimator": "" if args.estimator == "none" else args.estimator,
        "weights": args.source,
        "device": args.device,
        "nsfw": {"auto": default_checker(), "none": ""}.get(args.nsfw, args.nsfw),
    }


def _add_sizes(sub: argparse.ArgumentParser, shortest: int, max_side: int, near: int | None) -> None:
    """Which images are large enough, and which too much alike."""
    sub.add_argument("--shortest", type=int, default=shortest, metavar="PX", help=f"of a side (default: {shortest})")
    text = f"longer sides are shrunk (default: {max_side})"
    sub.add_argument("--max-side", type=int, default=max_side, metavar="PX", help=text)
    text = f"of 64 by which hashes of duplicates may differ, 0-15 (default: {'equal pixels' if near is None else near})"
    sub.add_argument("--near", type=int, default=near, metavar="BITS", help=text)


def _sizes(args: argparse.Namespace) -> dict[str, Any]:
    return {"shortest": args.shortest, "max_side": args.max_side, "near": args.near}


def _add_import(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "path", metavar="PATH", help="folder, metadata.jsonl, .csv, file of poses, .mat of MPII, or .tar; see the guide"
    )
    sub.add_argument("--images", type=Path, metavar="DIR", help="where the images of a list are, if not beside it")
    text = "of the images, in any form that `humansd pose formats` lists (default: those in the folder)"
    sub.add_argument("--poses", type=Path, metavar="PATH", help=f"file or folder of poses {text}")
    sub.add_argument("--joints", metavar="SET", help="order of joints without names; `humansd pose formats` lists them")
    sub.add_argument("--units", metavar="NAME", help="of pose files: pixels, shares, signed, percent or thousandths")
    sub.add_argument("--image-column", default="", metavar="NAME", help="of a list: of images (default: file_name ...)")
    sub.add_argument("--caption-column", default="", metavar="NAME", help="of captions (default: text, caption ...)")
    _add_running(sub, 500)
    _add_models(sub)
    _add_sizes(sub, shortest=64, max_side=2048, near=None)
    sub.add_argument("--downsample", type=int, default=1, metavar="N", help="all N times smaller (default: 1)")
    sub.add_argument("--redetect", action="store_true", help="find poses anew, also where the files have them")
    sub.add_argument("--captioner", default="", metavar="NAME=FOLDER_OR_ID", help="who writes missing captions")
    sub.add_argument("--scene", default="", help="of images that name none, such as photo")
    sub.add_argument("--caption", default="", metavar="TEXT", help="of images that have none")
    sub.add_argument("--origin", default="", metavar="TEXT", help="where the images come from (default: the folder)")
    sub.add_argument("--keep-empty", action="store_true", help="keep images with nobody in them")
    sub.add_argument("--without-minors", action="store_true", help="leave out captions that speak of minors")


def _import(args: argparse.Namespace) -> None:
    from humansd.build.importing import ImportOptions, import_dataset
    from humansd.build.layouts.find import Given
    from humansd.pose.joints import known_set
    from humansd.pose.units import check_units

    check_units(args.units)
    if args.joints is not None:
        known_set(args.joints)
    given = Given(args.images, args.poses, args.joints, args.units, args.image_column, args.caption_column)
    captioner, _, weights = args.captioner.partition("=")
    options = ImportOptions(
        **_models(args),
        **_sizes(args),
        downsample=args.downsample,
        redetect=args.redetect,
        captioner=captioner,
        captioner_weights=weights,
        scene=args.scene,
        caption=args.caption,
        source=args.origin,
        license=args.license,
        keep_empty=args.keep_empty,
        minors=args.without_minors,
    )
    _say(import_dataset(args.path, args.out, options, given=given, **_running(args)), args.out)


def _add_ghi(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--count", type=int, required=True, help="pairs that are kept")
    sub.add_argument("--model", default="pocket", help="pocket, or a folder or hub id of diffusers (default: pocket)")
    _add_running(sub, 200)
    _add_models(sub)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--poses",
        default="atelier",
        choices=("atelier", "none"),
        help="poses that a model of HumanSD draws in: sampled as Atelier's (default), or none",
    )
    sub.add_argument("--steps", type=int, default=0, help="denoising steps (default: as the model says)")
    sub.add_argument("--guidance", type=float, default=0.0, help="by the text (default: as the model says)")
    sub.add_argument("--size", type=int, default=0, help="px of a side (default: as the model says)")
    sub.add_argument("--share", type=float, default=0.3, help="the best so many of what passes (default: 0.3)")
    sub.add_argument("--integrity", type=float, default=0.6, help="share of a body that is seen (default: 0.6)")
    sub.add_argument("--quality", default="certainty-sharpness", help="certainty or certainty-sharpness (default)")
    text = "images of which the best are chosen (default: 64; 16 where --count is below 20)"
    sub.add_argument("--pool", type=int, default=0, help=text)
    sub.add_argument("--batch", type=int, default=8, help="images drawn at once (default: 8)")


def _ghi(args: argparse.Namespace) -> None:
    from humansd.build.ghi import GhiOptions, build_ghi

    options = GhiOptions(
        **_models(args),
        model=args.model,
        seed=args.seed,
        poses=args.poses,
        steps=args.steps,
        guidance=args.guidance,
        size=args.size,
        integrity=args.integrity,
        quality=args.quality,
        share=args.share,
        pool=args.pool or (64 if args.count >= 20 else 16),
        license=args.license,
    )
    _say(build_ghi(args.count, args.out, options, batch_size=args.batch, **_running(args)), args.out)


def _add_laion(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("addresses", metavar="PARQUET", help="file or folder with columns url, caption (and key, sha256)")
    _add_running(sub, 500)
    _add_models(sub)
    _add_sizes(sub, shortest=256, max_side=1024, near=3)
    sub.add_argument("--aspect", type=float, default=3.0, help="of the sides, at most (default: 3)")
    sub.add_argument("--confidence", type=float, default=0.02, help="of the surest person, above (default: 0.02)")
    sub.add_argument("--most-people", type=int, default=0, help="of an image (default: any number)")
    sub.add_argument("--timeout", type=float, default=20.0, metavar="S", help="of one try, all of it (default: 20)")
    sub.add_argument("--tries", type=int, default=3, help="of an address in one run (default: 3)")
    sub.add_argument("--pause", type=float, default=0.5, metavar="S", help="before the second try (default: 0.5)")
    sub.add_argument("--per-host", type=int, default=4, help="connections to one host at once (default: 4)")
    sub.add_argument("--at-once", type=int, default=64, help="connections at once (default: 64)")
    sub.add_argument("--allow-private", action="store_true", help="also ask addresses of private networks")
    sub.add_argument("--with-minors", action="store_true", help="keep captions that speak of minors")


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
        **_models(args),
        **_sizes(args),
        aspect=args.aspect,
        confidence=args.confidence,
        most_people=args.most_people,
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
    for note in manifest["settings"]["about"].get("notes", ()):
        print(f"Note: {note}")
    if failed:
        print(f"{failed} of them may be had later: the same command asks for them again")
