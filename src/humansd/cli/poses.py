"""Commands about poses."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, add_device, add_estimator, add_pose_reading
from humansd.cli.checks import check_estimator
from humansd.core.counting import people_text


def add(commands: Group) -> None:
    """pose draw, convert, formats, detect and score."""
    poses = commands.group("pose", "detect, draw and convert poses")
    _add_pose_draw(poses.command("draw", "draw the people of a pose file as a skeleton image", _pose_draw))
    _add_pose_convert(poses.command("convert", "rewrite a pose file in another format", _pose_convert))
    poses.command("formats", "list the pose formats and joint sets that are read", _pose_formats)
    _add_pose_detect(poses.command("detect", "find the people of photographs and write their poses", _pose_detect))
    _add_pose_score(poses.command("score", "measure an estimator on people whose poses are known", _pose_score))


def _add_pose_draw(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="FILE", help="pose file")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")
    sub.add_argument("--style", default="humansd", choices=("humansd", "openpose"))
    sub.add_argument("--name", help="which pose, in a file of several")
    add_pose_reading(sub)
    sub.add_argument("--background", type=Path, metavar="IMAGE", help="draw over this image")


def _pose_draw(args: argparse.Namespace) -> None:
    from humansd.pose.tools import draw_file

    people = draw_file(
        args.file,
        args.out,
        style=args.style,
        name=args.name,
        canvas=args.canvas,
        units=args.units,
        joints=args.joints,
        background=args.background,
    )
    print(f"{args.out}: {people_text(people.n)}, {people.canvas[0]}x{people.canvas[1]}")


def _add_pose_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="IN", help="pose file or folder; formats are recognised")
    sub.add_argument("out", type=Path, metavar="OUT")
    sub.add_argument("--to", required=True, choices=("coco", "openpose", "humanart", "npz", "humansd"))
    add_pose_reading(sub)


def _pose_convert(args: argparse.Namespace) -> None:
    from humansd.pose.tools import convert_file

    poses = convert_file(args.file, args.out, args.to, canvas=args.canvas, units=args.units, joints=args.joints)
    print(f"{args.out}: {len(poses)} poses, {people_text(sum(people.n for people in poses.values()))}")


def _pose_formats(args: argparse.Namespace) -> None:
    from humansd.pose.tools import format_tables

    print(format_tables())


def _add_pose_detect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("path", type=Path, metavar="PHOTO_OR_FOLDER")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    sub.add_argument(
        "--to",
        default="coco",
        choices=("coco", "openpose"),
        help="coco: DIR/poses.json; openpose: a file each (default: coco)",
    )
    add_estimator(sub)
    sub.add_argument("--no-preview", dest="preview", action="store_false", help="do not draw them over the photos")
    add_device(sub)


def _pose_detect(args: argparse.Namespace) -> None:
    from humansd.inference.detect import detect_files

    found = detect_files(
        args.path,
        args.out,
        estimator=args.estimator,
        source=args.source,
        to=args.to,
        preview=args.preview,
        device=args.device,
    )
    print(f"{len(found.people)} images, {people_text(sum(found.people.values()))} found by {found.estimator}")
    print(f"poses: {found.poses[0] if args.to == 'coco' else args.out}")
    if args.preview:
        print(f"previews: {found.previews[0].parent}")


def _add_pose_score(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", type=Path, metavar="SHARDS_OR_COCO_JSON")
    sub.add_argument("--images", type=Path, metavar="DIR", help="the images of a COCO file")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="for results.json, results.md, sheet.png")
    sub.add_argument("--limit", type=int, default=0, help="the first so many images (default: all)")
    add_device(sub)
    add_estimator(sub)


def _pose_score(args: argparse.Namespace) -> None:
    check_estimator(args.estimator)
    if args.data.suffix == ".json":
        from humansd.evaluation.coco_images import check_coco_images

        check_coco_images(args.data, args.images, args.limit)
    from humansd.evaluation.estimators import as_markdown, score_estimator
    from humansd.models.estimators import load_estimator

    estimator = load_estimator(args.estimator, args.source, args.device)
    print(as_markdown(score_estimator(estimator, args.data, args.out, images=args.images, limit=args.limit)))
    print(f"results and a sheet of the best, middle and worst images: {args.out}")
