"""Commands that make tables 3 and 4, figures 3 and 7 and section 5.4 of the paper again."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from humansd.cli.arguments import Group, add_method, add_precision, add_sampling, sampling_of
from humansd.cli.checks import check_model, check_there

Inputs = Callable[[argparse.ArgumentParser], None]


def add(group: Group, add_inputs: Inputs) -> None:
    """reproduce table3, table4, figure7, conflict and beyond-people."""
    sub = group.command("table3", "train HumanSD on one kind of data after the other and measure; resumable", _table3)
    _add_table(sub, add_inputs, "of each training")
    sub.epilog = cost("3 trainings x --steps 938 x batch 32 = 90,048 samples, and 1,500 pairs of what the base draws")
    sub.add_argument("--generated", type=int, default=1500, help="images drawn by the base and kept (default: 1500)")
    sub.add_argument("--generated-data", default="", metavar="SHARDS", help="in their place, drawn before")
    sub.add_argument(
        "--annotator",
        default="higherhrnet",
        metavar="NAME[=SOURCE]",
        help="finds their people (default: higherhrnet)",
    )
    sub.add_argument("--share", type=float, default=0.3, help="the best so many of what passes (default: 0.3)")
    sub.add_argument("--integrity", type=float, default=0.6, help="share of a body that is seen (default: 0.6)")
    sub = group.command("table4", "train HumanSD for three lengths and measure; resumable", _table4)
    _add_table(sub, add_inputs, "of the longest training; the others take 1/3 and 19/30 of them")
    sub.epilog = cost("1 training, which goes on twice, x --steps 938 x batch 32 = 30,016 samples")
    _add_figure7(group.command("figure7", "learning curves and crowds of a table 1, as charts", _figure7))
    _add_conflict(group.command("conflict", "the two branches of a ControlNet against HumanSD's one", _conflict))
    _add_beyond(group.command("beyond-people", "robots, statues and animals in given poses", _beyond))


def cost(samples: str) -> str:
    """What a table takes by default, for its help."""
    return (
        f"cost of the pocket size, for each seed: {samples}, then drawing and measuring. Hours of training = samples / "
        "(3600 x your samples a second), which are samples / seconds in the last line of the log.jsonl of a short "
        "`humansd train` of the preset."
    )


def add_guidance(sub: argparse.ArgumentParser) -> None:
    """How images are guided, alike for all that is compared."""
    sub.add_argument("--guidance-scale", type=float, default=4.0, help="towards the text (default: 4)")
    sub.add_argument("--pose-guidance-scale", type=float, default=1.0, help="towards the pose (default: 1, none)")


def _add_table(sub: argparse.ArgumentParser, add_inputs: Inputs, steps: str) -> None:
    add_inputs(sub)
    add_guidance(sub)
    sub.add_argument("--size", default="pocket", help="the preset humansd-SIZE: pocket, sd15, sd21 (default: pocket)")
    sub.add_argument("--loss", default="ldm", metavar="NAME", help="of all trainings (default: ldm)")
    sub.add_argument("--steps", type=int, default=938, help=f"{steps} (default: 938)")
    sub.add_argument("--poses", type=int, default=512, help="that are drawn and measured (default: 512)")


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    from humansd.core.names import present_name
    from humansd.inference.sampling import SamplingConfig

    names = ("base_model", "data", "test", "images", "estimator", "held_out", "size", "loss", "steps", "poses")
    return {
        **{name: getattr(args, name) for name in names},
        "batch_size": args.batch,
        "seeds": tuple(args.seed or (2,)),
        "sampling": SamplingConfig(args.sampling_steps, args.guidance_scale, args.pose_guidance_scale),
        "overrides": tuple((present_name(key), value) for key, value in args.settings),
    }


def _table3(args: argparse.Namespace) -> None:
    from humansd.reproduce.table3 import Table3Settings, reproduce_table3

    settings = Table3Settings(
        **_shared(args),
        generated=args.generated,
        generated_data=args.generated_data,
        annotator=args.annotator,
        share=args.share,
        integrity=args.integrity,
        generating_steps=args.sampling_steps,
    )
    print(reproduce_table3(settings, args.out, args.jobs))


def _table4(args: argparse.Namespace) -> None:
    from humansd.reproduce.table4 import Table4Settings, reproduce_table4

    print(reproduce_table4(Table4Settings(**_shared(args)), args.out, args.jobs))


def _add_figure7(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", type=Path, metavar="TABLE1", help="what `reproduce table1 --curve-steps N --out` wrote")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="for figure7.html and figure7.json")


def _figure7(args: argparse.Namespace) -> None:
    from humansd.reproduce.figure7 import draw_figure7

    draw_figure7(args.table, args.out)
    print(args.out / "figure7.html")


def _add_conflict(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--native", required=True, metavar="FOLDER", help="a HumanSD")
    sub.add_argument("--dual", required=True, metavar="FOLDER", help="a ControlNet from the same base")
    sub.add_argument("--data", type=Path, required=True, metavar="SHARDS", help="whose poses and captions are taken")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="for conflict.html and conflict.json")
    sub.add_argument("--samples", type=int, default=32, help="the first so many of the data (default: 32)")
    sub.add_argument("--steps", type=int, default=15, help="denoising steps (default: 15)")
    sub.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")


def _conflict(args: argparse.Namespace) -> None:
    if "*" not in str(args.data):
        check_there("--data", args.data)
    from humansd.evaluation.tables import markdown_table, shown
    from humansd.reproduce.conflict import ConflictSettings, measure_conflict

    settings = ConflictSettings(args.native, args.dual, args.samples, args.steps, args.seed)
    results = measure_conflict(settings, args.data, args.out)
    rows = []
    for name, one in results["differences"].items():
        means = [sum(results["captions"][kind][name]) / len(results["timesteps"]) for kind in results["captions"]]
        ends = f"{shown(one['low'], 1, 3)} to {shown(one['high'], 1, 3)}"
        rows.append([name, *(shown(mean, 1, 3) for mean in means), shown(one["difference"], 1, 3), ends])
    print(markdown_table(["mean over steps", *results["captions"], "difference", "95 % interval"], rows))
    print(f"charts: {args.out / 'conflict.html'}")


def _add_beyond(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", required=True, help="a folder or a hub id; the pocket model knows people alone")
    add_method(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="given again, it goes on")
    sub.add_argument("--kind", action="append", metavar="NAME", help="robot, statue, animal; repeatable (default: all)")
    sub.add_argument("--n", type=int, default=1, help="images of each (default: 1)")
    sub.add_argument("--seed", type=int, default=0, help="of the first image of each (default: 0)")
    sub.add_argument("--batch-size", type=int, default=4, help="images drawn at once (default: 4)")
    add_sampling(sub)
    add_precision(sub)


def _beyond(args: argparse.Namespace) -> None:
    sampling = sampling_of(args)
    check_model(args.model)
    from humansd.inference.generate import Model
    from humansd.reproduce.beyond_people import KINDS, draw_beyond_people

    model = Model(args.model, args.device, args.dtype, args.compile, method=args.method, pose_network=args.pose_network)
    made = draw_beyond_people(
        model,
        args.out,
        kinds=tuple(args.kind or KINDS),
        n=args.n,
        seed=args.seed,
        sampling=sampling,
        batch_size=args.batch_size,
    )
    print(f"{len(made.images)} images in {args.out}; sheet: {made.sheets[0]}")
