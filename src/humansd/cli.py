"""The command line: parses, calls one function of a room, prints. Each command imports its room itself."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from humansd import __version__

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# What a user can put right: shown as one line. Anything else is a fault of ours and shows where it happened.
USER_ERRORS = (ValueError, OSError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 2 a mistake the user can mend, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    warnings.showwarning = _show_warning
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("humansd: stopped. Long commands go on where they were when given again.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0
    except USER_ERRORS as error:
        if arguments.debug:
            raise
        print(f"humansd: {_one_line(error)}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; each sets `run` to the function that carries it out."""
    parser = argparse.ArgumentParser(
        prog="humansd", description="Pictures of people in given poses, from a sentence and a skeleton."
    )
    parser.add_argument("--version", action="version", version=f"humansd {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error happened")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(group: argparse._SubParsersAction, name: str, text: str, run: Callable) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(run=run)
        return sub

    _add_generate(command(commands, "generate", "draw pictures of a prompt in a pose", _generate))
    _add_demo(command(commands, "demo", "draw the example poses in several styles", _demo))
    pose = commands.add_parser("pose", help="detect, draw and convert poses")
    poses = pose.add_subparsers(metavar="COMMAND", required=True)
    _add_pose_draw(command(poses, "draw", "draw the people of a pose file as a skeleton picture", _pose_draw))
    _add_pose_convert(command(poses, "convert", "rewrite a pose file in another format", _pose_convert))
    _add_pose_detect(command(poses, "detect", "find the people of photographs and write their poses", _pose_detect))
    _add_pose_score(command(poses, "score", "measure an estimator on people whose poses are known", _pose_score))
    _add_evaluate(command(commands, "evaluate", "draw the poses of a data set and measure them; resumable", _evaluate))
    _add_compare(command(commands, "compare", "evaluations side by side, with significance", _compare))
    benchmark = commands.add_parser("benchmark", help="measure speed, side by side in one run")
    benchmarks = benchmark.add_subparsers(metavar="COMMAND", required=True)
    _add_benchmark_estimators(
        command(benchmarks, "estimators", "pictures a second, and the share of time outside the network", _time_seeing)
    )
    _add_benchmark_metrics(
        command(benchmarks, "metrics", "seconds of AP, CAP, PCE and a Frechet distance", _time_metrics)
    )
    _add_definitions(
        command(benchmarks, "definitions", "metrics beside their published definitions, same people", _definitions)
    )
    convert = commands.add_parser("convert", help="published checkpoints as folders of safetensors")
    converts = convert.add_subparsers(metavar="COMMAND", required=True)
    _add_convert(command(converts, "higherhrnet", "a published HigherHRNet W32 or W48 (.pth)", _convert_higherhrnet))
    _add_convert(command(converts, "inception", "the Inception-v3 weights of FID (.pth of pytorch-fid)", _convert_fid))
    _add_convert_checkpoint(
        command(converts, "checkpoint", "one file of Stable Diffusion 1, 2 or HumanSD to a folder", _convert_checkpoint)
    )
    _add_convert_folder(command(converts, "folder", "a diffusers folder to one file", _convert_folder))
    _add_train(command(commands, "train", "train a preset; the same command goes on after a stop", _train))
    data = commands.add_parser("data", help="make and look at training data")
    datas = data.add_subparsers(metavar="COMMAND", required=True)
    _add_atelier(command(datas, "atelier", "render people and captions into shards; resumable", _atelier))
    _add_show(command(datas, "show", "pictures, skeletons and captions of shards on one sheet", _show))
    return parser


def _add_generate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("prompts", metavar="PROMPT", nargs="+", help="what the picture shows; several draw each")
    sub.add_argument(
        "--pose", type=Path, required=True, metavar="FILE_OR_FOLDER", help="JSON, npz or a photo, or a folder"
    )
    sub.add_argument(
        "--pose-kind",
        default="auto",
        choices=("auto", "skeleton"),
        help="skeleton: pictures of drawn skeletons",
    )
    sub.add_argument("--canvas", type=_size, metavar="WxH", help="pixels, for pose files that do not say theirs")
    _add_estimator(sub)
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--n", type=int, default=4, help="pictures of each prompt and pose (default: 4)")
    sub.add_argument("--seed", type=int, default=0, help="of the first picture, then one more each (default: 0)")
    sub.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    sub.add_argument("--guidance", type=float, default=5.0, help="how closely to follow the text (default: 5)")
    sub.add_argument(
        "--pose-guidance",
        type=float,
        default=1.0,
        help="how closely to follow the pose; not 1 costs time (default: 1)",
    )
    sub.add_argument("--negative", default="", metavar="TEXT", help="what the picture should not show")
    sub.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder to write to (default: out)")


def _generate(args: argparse.Namespace) -> None:
    from humansd.pipelines.generate import Sampling, generate_pictures

    made = generate_pictures(
        args.prompts,
        args.pose,
        args.out,
        model=args.model,
        n=args.n,
        seed=args.seed,
        sampling=Sampling(args.steps, args.guidance, args.pose_guidance, args.negative),
        pose_kind=args.pose_kind,
        canvas=args.canvas,
        estimator=args.estimator,
        source=args.source,
        say=print,
    )
    print(f"{len(made.pictures)} pictures in {args.out}")
    print(*(f"sheet: {sheet}" for sheet in made.sheets), sep="\n")


def _add_demo(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default: demo-out")
    sub.add_argument("--poses", type=Path, metavar="FOLDER", help="pose files (default: the examples)")
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--seed", type=int, default=0)


def _demo(args: argparse.Namespace) -> None:
    from humansd.pipelines.demo import draw_demo, next_command

    made = draw_demo(args.out, poses=args.poses, model=args.model, seed=args.seed)
    print(f"{len(made.pictures)} pictures in {args.out}, all of them on {made.sheets[0]}")
    print(f"Next, try:\n  {next_command(args.poses)}")


def _add_pose_draw(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="FILE", help="pose file")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")
    sub.add_argument("--style", default="humansd", choices=("humansd", "openpose"))
    sub.add_argument("--name", help="which pose, in a file of several")
    sub.add_argument("--canvas", type=_size, metavar="WxH", help="pixels, for a file that does not say its own")
    sub.add_argument("--background", type=Path, metavar="PICTURE", help="draw over this picture")


def _pose_draw(args: argparse.Namespace) -> None:
    from humansd.pose.tools import draw_file

    people = draw_file(
        args.file, args.out, style=args.style, name=args.name, canvas=args.canvas, background=args.background
    )
    print(f"{args.out}: {people.n} people, {people.canvas[0]}x{people.canvas[1]}")


def _add_pose_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="IN", help="pose file or folder; formats are recognised")
    sub.add_argument("out", type=Path, metavar="OUT")
    sub.add_argument("--to", required=True, choices=("coco", "openpose", "humanart", "npz", "humansd"))
    sub.add_argument("--canvas", type=_size, metavar="WxH", help="pixels, for a file that does not say its own")


def _pose_convert(args: argparse.Namespace) -> None:
    from humansd.pose.tools import convert_file

    poses = convert_file(args.file, args.out, args.to, canvas=args.canvas)
    print(f"{args.out}: {len(poses)} poses, {sum(people.n for people in poses.values())} people")


def _add_pose_detect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("path", type=Path, metavar="PHOTO_OR_FOLDER")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    sub.add_argument(
        "--to",
        default="coco",
        choices=("coco", "openpose"),
        help="coco: DIR/poses.json; openpose: a file each (default: coco)",
    )
    _add_estimator(sub)
    sub.add_argument("--no-preview", dest="preview", action="store_false", help="do not draw them over the photos")
    sub.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")


def _pose_detect(args: argparse.Namespace) -> None:
    from humansd.pipelines.detect import detect_files

    found = detect_files(
        args.path,
        args.out,
        estimator=args.estimator,
        source=args.source,
        to=args.to,
        preview=args.preview,
        device=args.device,
    )
    print(f"{len(found.people)} pictures, {sum(found.people.values())} people found by {found.estimator}")
    print(f"poses: {found.poses[0] if args.to == 'coco' else args.out}")
    if args.preview:
        print(f"previews: {found.previews[0].parent}")


def _add_pose_score(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", type=Path, metavar="SHARDS_OR_COCO_JSON")
    sub.add_argument("--images", type=Path, metavar="DIR", help="the pictures of a COCO file")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="for results.json, results.md, sheet.png")
    sub.add_argument("--limit", type=int, default=0, help="the first so many pictures (default: all)")
    sub.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    _add_estimator(sub)


def _pose_score(args: argparse.Namespace) -> None:
    from humansd.evaluation.estimators import as_markdown, score_estimator
    from humansd.models.estimators import load_estimator

    estimator = load_estimator(args.estimator, args.source, args.device)
    print(as_markdown(score_estimator(estimator, args.data, args.out, images=args.images, limit=args.limit)))
    print(f"results and a sheet of the best, middle and worst pictures: {args.out}")


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="folder, .tar file or quoted glob")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run; given again, it goes on")
    sub.add_argument("--limit", type=int, default=0, help="the first so many samples (default: all)")
    sub.add_argument("--seed", type=int, default=0, help="of the first picture, then one more each (default: 0)")
    sub.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    sub.add_argument("--guidance", type=float, default=5.0, help="how closely to follow the text (default: 5)")
    sub.add_argument("--pose-guidance", type=float, default=1.0, help="how closely to follow the pose (default: 1)")
    sub.add_argument("--negative", default="", metavar="TEXT", help="what the pictures should not show")
    sub.add_argument("--batch-size", type=int, default=8, help="pictures drawn at once (default: 8)")
    sub.add_argument("--estimator", default="judge", metavar="NAME[=SOURCE]", help="finds poses (default: judge)")
    sub.add_argument(
        "--features",
        action="append",
        metavar="NAME[=SOURCE]",
        help="features for distances: pocket, inception, transformers; repeatable (default: pocket)",
    )
    sub.add_argument(
        "--clip", default="", metavar="FOLDER_OR_ID", help="for CLIPSIM; none leaves it out (default: the pocket pair)"
    )
    sub.add_argument("--count-threshold", type=float, metavar="SCORE", help="people with at least it are counted")
    sub.add_argument("--timing-runs", type=int, default=20, help="pictures drawn one by one; 0: none (default: 20)")
    sub.add_argument("--device", default="", help="such as cuda (default: a GPU if there is one)")


def _evaluate(args: argparse.Namespace) -> None:
    from humansd.evaluation.evaluate import EvaluationSettings, evaluate
    from humansd.evaluation.tables import as_markdown
    from humansd.pipelines.generate import Sampling

    settings = EvaluationSettings(
        model=args.model,
        estimator=args.estimator,
        features=tuple(args.features or ("pocket",)),
        clip=args.clip,
        limit=args.limit,
        seed=args.seed,
        count_threshold=args.count_threshold,
        sampling=Sampling(args.steps, args.guidance, args.pose_guidance, args.negative),
        batch_size=args.batch_size,
        timing_runs=args.timing_runs,
        device=args.device,
    )
    print(as_markdown(evaluate(settings, args.data, args.out)))
    print(f"report: {args.out / 'report.html'}")


def _add_compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="what `evaluate --out` wrote; first: reference")
    sub.add_argument("--out", type=Path, metavar="DIR", help="for compare.json, compare.md and compare.html")


def _compare(args: argparse.Namespace) -> None:
    from humansd.evaluation.compare import compare_runs, comparison_markdown

    print(comparison_markdown(compare_runs(args.runs, args.out)))
    if args.out is not None:
        print(f"report: {args.out / 'compare.html'}")


def _add_benchmark_estimators(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "names",
        metavar="NAME[=SOURCE]",
        nargs="*",
        default=["higherhrnet"],
        help="SOURCE: weights, if not those that ship",
    )
    sub.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    sub.add_argument("--count", type=int, default=64, help="pictures (default: 64)")


def _time_seeing(args: argparse.Namespace) -> None:
    from humansd.evaluation.speed import benchmark_estimators

    print(benchmark_estimators(args.names, args.count, args.device))


def _add_benchmark_metrics(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--pictures", type=int, default=5000, help="with detected poses (default: 5000)")
    sub.add_argument("--features", type=int, default=10_000, help="of each of two sets (default: 10000)")
    sub.add_argument("--width", type=int, default=2048, help="numbers of a feature (default: 2048)")


def _time_metrics(args: argparse.Namespace) -> None:
    from humansd.evaluation.metric_speed import benchmark_metrics

    print(benchmark_metrics(args.pictures, args.features, args.width))


def _add_definitions(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--pictures", type=int, default=400, help="of Atelier (default: 400)")


def _definitions(args: argparse.Namespace) -> None:
    from humansd.evaluation.definitions import compare_definitions

    print(compare_definitions(args.pictures))


def _add_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="FILE", help="the checkpoint; only tensors are read from it")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")


def _convert_higherhrnet(args: argparse.Namespace) -> None:
    from humansd.models.convert import convert_higherhrnet

    network = convert_higherhrnet(args.file, args.out)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"{args.out}: HigherHRNet-W{network.config.width}, {millions:.1f} M parameters")
    print(f"Use it with: humansd pose detect PHOTO --source {args.out} --out DIR")


def _convert_fid(args: argparse.Namespace) -> None:
    from humansd.models.convert import convert_inception

    convert_inception(args.file, args.out)
    print(f"{args.out}: Inception-v3, 2048 features")
    print(f"Use it with: humansd evaluate --features inception={args.out} ...")


def _add_convert_checkpoint(sub: argparse.ArgumentParser) -> None:
    _add_convert(sub)
    sub.add_argument(
        "--tokenizer", default="", metavar="FOLDER_OR_ID", help="its words (default: the family's own on the hub)"
    )
    sub.add_argument("--prediction", default="epsilon", help="epsilon or v_prediction (default: epsilon)")
    sub.add_argument("--ema", action="store_true", help="the UNet's averaged weights")


def _convert_checkpoint(args: argparse.Namespace) -> None:
    from humansd.pipelines.single_file import checkpoint_to_folder

    kind = checkpoint_to_folder(args.file, args.out, tokenizer=args.tokenizer, prediction=args.prediction, ema=args.ema)
    print(f"{args.out}: {kind}")


def _add_convert_folder(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a diffusers pipeline")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .safetensors")


def _convert_folder(args: argparse.Namespace) -> None:
    from humansd.pipelines.single_file import folder_to_checkpoint

    print(f"{args.out}: {folder_to_checkpoint(args.folder, args.out)}")


def _add_estimator(sub: argparse.ArgumentParser) -> None:
    """What finds people in photographs; its names are checked when it is loaded, as listing them takes seconds."""
    sub.add_argument(
        "--estimator", default="higherhrnet", metavar="NAME", help="finds people in photos (default: higherhrnet)"
    )
    sub.add_argument("--source", default="", metavar="FOLDER_OR_ID", help="its weights, if not those that ship")


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", nargs="?", help="see --list")
    sub.add_argument("--list", action="store_true", help="name the presets")
    sub.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=_setting,
        metavar="KEY=VALUE",
        help="repeatable",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: in the cache folder)")
    sub.add_argument("--dry-run", action="store_true", help="print the settings and do nothing")


def _train(args: argparse.Namespace) -> None:
    from humansd.training.presets import PRESETS
    from humansd.training.run import run_preset

    if args.list:
        print(*PRESETS, sep="\n")
    elif args.preset is None:
        raise ValueError("name a preset; `humansd train --list` shows them")
    else:
        print(run_preset(args.preset, dict(args.settings), args.out, args.dry_run))


def _add_atelier(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--count", type=int, required=True, help="number of pictures")
    sub.add_argument("--size", type=int, default=128, help="pixels a side (default: 128)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")


def _atelier(args: argparse.Namespace) -> None:
    from humansd.atelier.dataset import write_atelier

    manifest = write_atelier(args.out, args.count, size=args.size, seed=args.seed, workers=args.workers)
    print(f"{manifest['count']} pictures in {len(manifest['shards'])} shards in {args.out}")


def _add_show(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shards", metavar="SHARDS", help="folder, .tar file or quoted glob")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")
    sub.add_argument("--n", type=int, default=24, help="how many (default: 24)")


def _show(args: argparse.Namespace) -> None:
    from humansd.data.sheet import show_shards

    print(f"{args.out}: {show_shards(args.shards, args.out, n=args.n)} samples")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write width x height in pixels, like 640x480")
    return int(width), int(height)


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write KEY=VALUE, like steps=1000")
    return key, value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"humansd: note: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
