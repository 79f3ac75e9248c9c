"""Benchmarks: speed side by side in one run, metrics beside their published definitions, kills."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, add_device, add_sampling, device_of, sampling_of, setting


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
    _add_training_speed(
        group.command("training", "a full-size step with random weights, against diffusers' example", _time_step)
    )
    _add_loss_speed(group.command("losses", "a training step with each loss, side by side", _time_losses))
    _add_overhead(group.command("overhead", "what a training step costs beyond the arithmetic", _time_overhead))
    _add_fuzz(group.command("fuzz", "damaged files: refused, or read as an independent reader reads them", _fuzz))
    _add_endurance(
        group.command("endurance", "kills and full disks over all that writes; must leave what it leaves", _endurance)
    )
    _add_build_speed(group.command("build", "images a second of a data set's building, and its memory", _build_speed))
    _add_studio(group.command("studio", "a studio under load, killed in between where asked for", _studio))
    _add_kills(group.command("kills", "kill a run at random moments; must end as an unbroken one", _kills))


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


def _add_fuzz(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("targets", metavar="TARGET", nargs="*", help="poses, samples, models (default: all)")
    sub.add_argument("--count", type=int, default=10_000, help="mutants of each (default: 10000)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--keep", type=Path, metavar="DIR", help="for the mutants that fail")


def _fuzz(args: argparse.Namespace) -> None:
    from humansd.benchmarks.fuzz import TARGETS, benchmark_fuzz

    print(benchmark_fuzz(args.targets or list(TARGETS), args.count, args.seed, args.keep))


def _add_endurance(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--kills", type=int, default=20, help="of each command (default: 20)")
    sub.add_argument("--sizes", type=int, default=20, help="of small disks for each command (default: 20)")
    sub.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="data, training, evaluation, generation, import, laion, union, ghi",
    )
    sub.add_argument("--count", type=int, default=0, help="images, addresses and pairs of built data sets (0: a few)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for all of it; emptied first")


def _endurance(args: argparse.Namespace) -> None:
    from humansd.benchmarks.endurance import benchmark_endurance
    from humansd.cli import main

    print(benchmark_endurance(main, args.out, kills=args.kills, sizes=args.sizes, only=args.only, count=args.count))


def _add_kills(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", help="of a single stage, such as pocket-humansd")
    sub.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    sub.add_argument("--kills", type=int, default=50, help="(default: 50)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for both runs")


def _kills(args: argparse.Namespace) -> None:
    from humansd.benchmarks.kills import benchmark_kills

    print(benchmark_kills(args.preset, args.settings, args.out, args.kills))


def _add_build_speed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--count", type=int, default=4000, help="images (default: 4000)")
    sub.add_argument("--side", type=int, default=256, help="px of an image (default: 256)")
    sub.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    sub.add_argument(
        "--memory", type=int, default=50_000, help="small images while whose building the memory is watched (0: none)"
    )
    sub.add_argument("--ray", type=int, default=2, help="workers of Ray that must write the same (0: none)")


def _build_speed(args: argparse.Namespace) -> None:
    from humansd.benchmarks.build_speed import benchmark_build

    print(benchmark_build(args.count, args.side, args.workers, memory=args.memory, ray=args.ray))


def _add_studio(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--clients", type=int, default=200, help="at once (default: 200)")
    sub.add_argument("--seconds", type=float, default=120, help="(default: 120)")
    sub.add_argument("--steps", type=int, default=4, help="denoising steps of each image (default: 4)")
    sub.add_argument("--kills", type=int, default=0, help="SIGKILLs of the server in between (default: 0)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the server's state and log")


def _studio(args: argparse.Namespace) -> None:
    from humansd.benchmarks.studio_load import benchmark_studio

    print(
        benchmark_studio(
            args.out,
            model=args.model,
            clients=args.clients,
            seconds=args.seconds,
            steps=args.steps,
            kills=args.kills,
        )
    )
