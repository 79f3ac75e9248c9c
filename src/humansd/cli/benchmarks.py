"""Benchmarks: speed side by side in one run, metrics beside their published definitions, what the models promise."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from humansd.cli import benchmarks_robust
from humansd.cli.arguments import Group, add_device, add_sampling, device_of, sampling_of, setting
from humansd.cli.checks import check_there


def add(commands: Group) -> None:
    """What is measured: speed, robustness, diversity."""
    group = commands.group("benchmark", "measure speed, side by side in one run")
    _add_inference_speed(
        group.command("inference", "an image with each way of conditioning, side by side", _time_inference)
    )
    _add_pipeline_speed(
        group.command(
            "pipeline", "an image beside plain Stable Diffusion's, and beside its modules alone", _time_pipeline
        )
    )
    _add_benchmark_estimators(
        group.command("estimators", "images a second, and the share of time outside the network", _time_seeing)
    )
    _add_benchmark_metrics(group.command("metrics", "seconds of AP, CAP, PCE and a Frechet distance", _time_metrics))
    _add_definitions(
        group.command("definitions", "metrics beside their published definitions, same people", _definitions)
    )
    _add_diversity(
        group.command("diversity", "how much images of one prompt and pose differ, as a share of renders", _diversity)
    )
    _add_pocket(group.command("pocket", "what the pocket model promises, line by line; resumable", _pocket))
    _add_pose_sheet(
        group.command("sheet", "64 images with fixed seeds, half of them in real poses, on one sheet", _pose_sheet)
    )
    _add_training_speed(
        group.command("training", "a full-size step with random weights, against diffusers' example", _time_step)
    )
    _add_loss_speed(group.command("losses", "a training step with each loss, side by side", _time_losses))
    _add_overhead(group.command("overhead", "what a training step costs beyond the arithmetic", _time_overhead))
    benchmarks_robust.add(group)


def _add_inference_speed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--scale", default="pocket", choices=("pocket", "sd15"), help="(default: pocket)")
    sub.add_argument("--method", action="append", default=[], metavar="NAME", help="repeatable (default: all)")
    sub.add_argument("--steps", type=int, default=50, help="of an image (default: 50)")
    sub.add_argument("--turns", type=int, default=7, help="how often each is timed (default: 7)")
    add_device(sub)
    sub.add_argument("--dtype", default="fp32", choices=("fp32", "fp16", "bf16"), help="(default: fp32)")


def _time_inference(args: argparse.Namespace) -> None:
    from humansd.benchmarks.inference_speed import benchmark_inference

    print(
        benchmark_inference(
            args.scale,
            methods=args.method,
            steps=args.steps,
            turns=args.turns,
            device=device_of(args),
            dtype=args.dtype,
        )
    )


def _add_pipeline_speed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--steps", type=int, default=25, help="denoising steps (default: 25)")
    sub.add_argument("--pairs", type=int, default=20, help="of images that are compared (default: 20)")
    add_device(sub)
    sub.add_argument("--dtype", default="fp32", choices=("fp32", "fp16", "bf16"), help="(default: fp32)")


def _time_pipeline(args: argparse.Namespace) -> None:
    from humansd.benchmarks.pipeline_speed import benchmark_pipeline

    print(benchmark_pipeline(args.model, steps=args.steps, pairs=args.pairs, device=device_of(args), dtype=args.dtype))


def _add_benchmark_estimators(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "names",
        metavar="NAME[=SOURCE]",
        nargs="*",
        default=["movenet", "higherhrnet"],
        help="SOURCE: weights, if not those that ship",
    )
    add_device(sub)
    sub.add_argument("--count", type=int, default=64, help="images (default: 64)")


def _time_seeing(args: argparse.Namespace) -> None:
    from humansd.benchmarks.speed import benchmark_estimators

    print(benchmark_estimators(args.names, args.count, device_of(args)))


def _add_benchmark_metrics(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--images", type=int, default=5000, help="with detected poses (default: 5000)")
    sub.add_argument("--features", type=int, default=10_000, help="of each of two sets (default: 10000)")
    sub.add_argument("--width", type=int, default=2048, help="numbers of a feature (default: 2048)")


def _time_metrics(args: argparse.Namespace) -> None:
    from humansd.benchmarks.metric_speed import benchmark_metrics

    print(benchmark_metrics(args.images, args.features, args.width))


def _add_definitions(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--images", type=int, default=400, help="of Atelier (default: 400)")


def _definitions(args: argparse.Namespace) -> None:
    from humansd.evaluation.definitions import compare_definitions

    print(compare_definitions(args.images))


def _add_diversity(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--prompts", type=int, default=16, help="each with a pose of its own (default: 16)")
    sub.add_argument("--seeds", type=int, default=16, help="images of each (default: 16)")
    sub.add_argument(
        "--features", action="append", metavar="NAME[=SOURCE]", help="as of evaluate; repeatable (default: pocket)"
    )
    add_sampling(sub)
    add_device(sub)
    sub.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="(default: auto)")


def _diversity(args: argparse.Namespace) -> None:
    from humansd.benchmarks.diversity import benchmark_diversity

    how = {"sampling": sampling_of(args), "device": device_of(args), "dtype": args.dtype}
    features = args.features or ("pocket",)
    print(benchmark_diversity(args.model, features, prompts=args.prompts, seeds=args.seeds, **how))


def _add_pocket(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket or a folder (default: pocket)")
    sub.add_argument("--variant", default="", metavar="NAME", help="of the model's own (default: its own)")
    sub.add_argument("--few", default="four-steps", metavar="NAME", help="the few-step variant (default: four-steps)")
    sub.add_argument("--size", type=int, default=256, help="px at which all is measured (default: 256)")
    sub.add_argument("--poses", type=int, default=1000, help="of Atelier, for each phrasing (default: 1000)")
    sub.add_argument("--real-poses", type=Path, metavar="FILE_OR_FOLDER", help="archive or pose file of real people")
    sub.add_argument("--real-count", type=int, default=500, help="images of it; 0: all (default: 500)")
    sub.add_argument("--held-out", default="centernet", metavar="NAME[=SOURCE]", help="measures (default: centernet)")
    sub.add_argument(
        "--beside",
        dest="others",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="a further estimator, with AP lines of its own; repeatable",
    )
    sub.add_argument("--clip", default="", metavar="FOLDER", help="the CLIP that measures (default: the shipped one)")
    sub.add_argument("--prompts", type=int, default=16, help="of the diversity (default: 16)")
    sub.add_argument("--seeds", type=int, default=16, help="of the diversity (default: 16)")
    sub.add_argument("--timing-runs", type=int, default=20, help="images that are timed; 0: none (default: 20)")
    sub.add_argument("--batch-size", type=int, default=8, help="images drawn at once (default: 8)")
    sub.add_argument("--device", default="auto", help="such as cuda or cpu (default: a GPU if there is one)")
    sub.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="(default: auto)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="given again, it goes on")


def _pocket(args: argparse.Namespace) -> None:
    check_there("--real-poses", args.real_poses)
    from humansd.benchmarks.pocket_table import PocketTableSettings, benchmark_pocket

    names = [field.name for field in dataclasses.fields(PocketTableSettings)]
    settings = PocketTableSettings(**{name: getattr(args, name) for name in names} | {"others": tuple(args.others)})
    print(benchmark_pocket(settings, args.out))


def _add_pose_sheet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--variant", default="", metavar="NAME", help="of the model's own (default: its own)")
    sub.add_argument(
        "--real-poses", type=Path, required=True, metavar="FILE_OR_FOLDER", help="archive or pose file of real people"
    )
    sub.add_argument("--count", type=int, default=64, help="images, half of each kind of pose (default: 64)")
    sub.add_argument("--seed", type=int, default=0, help="of the first image, then one more each (default: 0)")
    sub.add_argument("--device", default="auto", help="such as cuda or cpu (default: a GPU if there is one)")
    sub.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="(default: auto)")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")


def _pose_sheet(args: argparse.Namespace) -> None:
    check_there("--real-poses", args.real_poses)
    from humansd.benchmarks.pose_sheet import draw_pose_sheet

    how = {name: getattr(args, name) for name in ("model", "variant", "count", "seed", "device", "dtype")}
    print(f"sheet: {draw_pose_sheet(args.out, args.real_poses, **how)}")


def _add_training_speed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--batch", type=int, default=1, help="(default: 1)")
    sub.add_argument("--side", type=int, default=512, help="of the images, px (default: 512)")
    sub.add_argument("--steps", type=int, default=2, help="timed steps of each kind (default: 2)")
    add_device(sub)


def _time_step(args: argparse.Namespace) -> None:
    from humansd.benchmarks.training_speed import benchmark_training, training_memory

    print(benchmark_training(batch=args.batch, side_px=args.side, steps=args.steps, device=device_of(args)))
    memory = training_memory(batch=args.batch, side_px=args.side, device=device_of(args))
    print(f"\nEstimated, with averages: {memory}.")


def _add_loss_speed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--scale", default="pocket", choices=("pocket", "sd15"), help="sd15: random weights, 16 GB")
    sub.add_argument("--batch", type=int, default=0, help="(default: 16 at pocket size, 1 at full size)")
    sub.add_argument("--steps", type=int, default=5, help="timed steps of each loss (default: 5)")
    add_device(sub)
    sub.add_argument(
        "--gradient-accumulation-steps", "--accumulation", type=int, default=1, help="batches of a step (default: 1)"
    )
    sub.add_argument("--no-checkpointing", action="store_true", help="more memory for less time, at full size")
    sub.add_argument("--compile", action="store_true", help="the UNet, as compile=auto trains it")


def _time_losses(args: argparse.Namespace) -> None:
    from humansd.benchmarks.loss_speed import benchmark_losses

    print(
        benchmark_losses(
            args.scale,
            batch=args.batch,
            steps=args.steps,
            device=device_of(args),
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            checkpointing=not args.no_checkpointing,
            compile_unet=args.compile,
        )
    )


def _add_overhead(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", help="of a single stage, such as pocket-humansd")
    sub.add_argument("--set", dest="settings", action="append", default=[], type=setting, metavar="KEY=VALUE")
    sub.add_argument("--steps", type=int, default=60, help="of each loop (default: 60)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")


def _time_overhead(args: argparse.Namespace) -> None:
    from humansd.benchmarks.overhead import benchmark_overhead

    print(benchmark_overhead(args.preset, dict(args.settings), args.out, args.steps))
