"""Benchmarks of what must hold: damaged files, kills, full disks, long builds, a studio under load."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group


def add(group: Group) -> None:
    """Adds them to the group `benchmark`."""
    _add_fuzz(group.command("fuzz", "damaged files: refused, or read as an independent reader reads them", _fuzz))
    _add_endurance(
        group.command("endurance", "kills and full disks over all that writes; must leave what it leaves", _endurance)
    )
    _add_drawings(
        group.command("drawings", "skeletons drawn in many ways, read back: joints right, wrong, left out", _drawings)
    )
    _add_build_speed(group.command("build", "images a second of a data set's building, and its memory", _build_speed))
    _add_studio(group.command("studio", "a studio under load, killed in between where asked for", _studio))
    _add_kills(group.command("kills", "kill a run at random moments; must end as an unbroken one", _kills))


def _add_drawings(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--poses", type=Path, required=True, metavar="FILE", help="real poses: any pose file")
    sub.add_argument("--count", type=int, default=200, help="of drawings (default: 200)")
    sub.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _drawings(args: argparse.Namespace) -> None:
    from humansd.benchmarks.drawings import benchmark_drawings

    print(benchmark_drawings(args.poses, count=args.count, seed=args.seed))


def _add_fuzz(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "targets", metavar="TARGET", nargs="*", help="poses, samples, models (default: these); studio: requests"
    )
    sub.add_argument("--count", type=int, default=10_000, help="mutants of each (default: 10000)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--keep", type=Path, metavar="DIR", help="for the mutants that fail")


def _fuzz(args: argparse.Namespace) -> None:
    from humansd.benchmarks.fuzz import TARGETS, benchmark_fuzz

    files = [name for name in args.targets if name != "studio"]
    if files or not args.targets:
        print(benchmark_fuzz(files or list(TARGETS), args.count, args.seed, args.keep))
    if "studio" in args.targets:
        from humansd.benchmarks.fuzz_studio import benchmark_fuzz_studio

        print(benchmark_fuzz_studio(args.count, args.seed, args.keep))


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
    sub.add_argument("--queue", type=int, default=256, help="images that may wait (default: 256)")
    sub.add_argument("--seconds", type=float, default=120, help="(default: 120)")
    sub.add_argument("--steps", type=int, default=4, help="denoising steps of each image (default: 4)")
    sub.add_argument("--kills", type=int, default=0, help="SIGKILLs of the server in between (default: 0)")
    sub.add_argument(
        "--throughput", action="store_true", help="what batching gains, beside the pipeline alone, in place of the load"
    )
    sub.add_argument("--batch", type=int, action="append", default=[], help="of --throughput (default: 1, 2, 4, 8)")
    sub.add_argument("--rounds", type=int, default=3, help="of --throughput (default: 3)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the server's state and log")


def _studio(args: argparse.Namespace) -> None:
    if args.throughput:
        from humansd.benchmarks.studio_throughput import BATCHES, benchmark_throughput

        batches = sorted(set(args.batch)) or BATCHES
        print(benchmark_throughput(args.out, model=args.model, batches=batches, steps=args.steps, rounds=args.rounds))
        return

    from humansd.benchmarks.studio_load import benchmark_studio

    print(
        benchmark_studio(
            args.out,
            model=args.model,
            clients=args.clients,
            queue=args.queue,
            seconds=args.seconds,
            steps=args.steps,
            kills=args.kills,
        )
    )
