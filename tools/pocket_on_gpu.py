"""The pocket recipe on a GPU that is rented by the minute.

    python tools/pocket_on_gpu.py --run WORK --out RESULTS --minutes 13 [--vae FOLDER] [--skip STAGE ...]

VAE, CLIP, base, HumanSD, one branch, four steps, the small decoder, the two estimators (which go on from the shipped
ones), and the model's folder with all of it. A trial on a CPU: --device cpu --images 4 4 --batch 2 --steps 1.

What each stage made is written to RESULTS as soon as it is there, in fp16 and in parts of at most 14 MB, so that a
machine that is taken away costs one stage: `cat RESULTS/NAME.tar.* | tar xf -`. While the GPU learns from the first
images, the other cores draw those of the later stages. Measured on an H100 with 16 cores: 88 images a second, 3,700
samples a second through the compiled UNet (2,500 to 3,200 with all that is around it), 70 seconds to compile each UNet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from humansd.data.image_cache import build_image_cache
from humansd.models.estimators import SHIPPED
from humansd.synthetic.dataset import write_atelier
from humansd.training.presets import POCKET
from humansd.training.settings import DiffusionSettings, PocketRecipe

START = time.monotonic()
COMPILE_SECONDS = 75
SHARES = {  # of the time left when the stage begins
    "vae": 0.25,
    "clip": 0.06,
    "base": 0.22,
    "humansd": 0.55,
    "one_branch": 0.25,
    "four_steps": 0.4,
    "tiny_decoder": 0.4,
    "higherhrnet": 0.5,
    "centernet": 0.9,
}
COSTS = {"one_branch": 2.0, "four_steps": 2.8}  # of a sample, against one of a plain training of the UNet
IMAGES = ("first", "later")


def main() -> None:
    options = _options()
    if options.draw:
        return _draw(options)
    options.out.mkdir(parents=True, exist_ok=True)
    options.run.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, *sys.argv[1:], "--draw"]
    with (options.run / "draw.log").open("w") as log:
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    _learn(options, _recipe(options))
    return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder to work in")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is to be kept")
    parser.add_argument("--minutes", type=float, required=True, help="in all")
    parser.add_argument("--vae", type=Path, help="folder of a VAE that is ready; none is trained")
    parser.add_argument("--skip", action="append", default=[], choices=[*SHARES], help="a stage; repeatable")
    parser.add_argument("--batch", type=int, default=0, help="samples of every batch, for a trial (default: as usual)")
    parser.add_argument("--steps", type=int, default=0, help="at most, of every stage, for a trial")
    parser.add_argument("--rate", type=float, default=2800, help="samples a second of the UNet (default: 2800)")
    parser.add_argument("--images", type=int, nargs=2, default=(8000, 18000), help="for the first and later stages")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _recipe(options: argparse.Namespace) -> PocketRecipe:
    loop: dict[str, Any] = {"device": options.device, "report_to": "none", "save_minutes": 60.0}
    unet = {**loop, "log_images_minutes": 0.0, "gradient_accumulation_steps": 1}
    pixels = {**loop, "compile": "auto"}
    if options.device == "cpu":
        unet |= {"compile": "no"}
        pixels |= {"compile": "no"}
    shipped: dict[str, dict[str, Any]] = {name: {"init": str(SHIPPED / name)} for name in ("higherhrnet", "centernet")}
    return replace(
        POCKET,
        vae=_short(options, replace(POCKET.vae, **pixels)),
        clip=_short(options, replace(POCKET.clip, **loop, vocabulary=2000)),
        base=_short(options, replace(POCKET.base, **unet)),
        humansd=_short(options, replace(POCKET.humansd, **unet)),
        one_branch=_short(options, replace(POCKET.one_branch, **unet)),
        four_steps=_short(options, replace(POCKET.four_steps, **unet)),
        tiny_decoder=_short(options, replace(POCKET.tiny_decoder, **pixels)),
        higherhrnet=_short(options, replace(POCKET.higherhrnet, **loop, **shipped["higherhrnet"])),
        centernet=_short(options, replace(POCKET.centernet, **loop, **shipped["centernet"])),
    )


def _short(options: argparse.Namespace, settings: Any) -> Any:
    """The settings of a trial, where one is asked for."""
    changes = {"batch_size": options.batch} if options.batch else {}
    if options.steps:
        changes |= {"steps": options.steps, "cooldown_steps": 0, "lr_warmup_steps": 0}
    return replace(settings, **changes)


def _draw(options: argparse.Namespace) -> None:
    """The images of both parts, one after the other; `NAME.done` says that a pack is there."""
    for name, count, seed in zip(IMAGES, options.images, (POCKET.vae_seed, POCKET.seed), strict=True):
        folder = options.run / name
        write_atelier(folder / "shards", count, size=POCKET.size, seed=seed, workers=options.workers, progress=False)
        build_image_cache(folder / "shards", folder / "pack", options.workers)
        (options.run / f"{name}.done").touch()


def _learn(options: argparse.Namespace, recipe: PocketRecipe) -> None:
    from humansd.training.recipe import assemble_components, distillations
    from humansd.training.tasks.autoencoder import AutoencoderTask
    from humansd.training.tasks.clip import ClipTask
    from humansd.training.tasks.diffusion import DiffusionTask
    from humansd.training.tasks.distillation import DistillationTask
    from humansd.training.tasks.estimators import EstimatorTask
    from humansd.training.tasks.few_steps import FewStepTask
    from humansd.training.tasks.tiny_decoder import TinyDecoderTask

    run = options.run
    first = _image_cache(options, "first")
    if options.vae:
        shutil.copytree(options.vae, run / "vae" / "export", dirs_exist_ok=True)
    else:
        _stage(options, "vae", AutoencoderTask, replace(recipe.vae, data=first))
    _stage(options, "clip", ClipTask, replace(recipe.clip, data=first))
    parts = str(assemble_components(run).resolve())
    base = _stage(options, "base", DiffusionTask, replace(recipe.base, data=first, components=parts))
    later = _image_cache(options, "later")
    model = _stage(
        options, "humansd", DiffusionTask, replace(recipe.humansd, data=later, components=base, base_model=base)
    )
    guided = replace(recipe, finetune=recipe.humansd)  # the model that is distilled here, and its guidance
    one_branch, four_steps = distillations(guided, later, model)
    lora = _stage(options, "one_branch", DistillationTask, one_branch)
    _stage(options, "four_steps", FewStepTask, replace(four_steps, teacher_lora=lora))
    vae = str((run / "vae" / "export").resolve())
    _stage(options, "tiny_decoder", TinyDecoderTask, replace(recipe.tiny_decoder, data=later, init=vae))
    _bring_out(options, "pocket", _assembled(run, recipe))
    _stage(options, "higherhrnet", EstimatorTask, replace(recipe.higherhrnet, data=later))
    _stage(options, "centernet", EstimatorTask, replace(recipe.centernet, data=first))


def _stage(options: argparse.Namespace, name: str, make: Callable[[Any], Any], settings: Any) -> str:
    """Trains a stage in its share of the time and brings out what it made, whose folder is returned; "" where it is
    skipped."""
    from humansd.training.loop import train

    if name in options.skip:
        return ""
    train(make(_timed(options, name, settings)), options.run / name)
    return _bring_out(options, name, options.run / name / "export")


def _assembled(run: Path, recipe: PocketRecipe) -> Path:
    """The model's folder, with what there is of the small files; without card and log."""
    from humansd.inference.words import FILE
    from humansd.models.digests import write_digests
    from humansd.synthetic.lexicon import lexicon
    from humansd.training.recipe import publish_variants

    out = run / "pocket"
    shutil.copytree(run / "humansd" / "export", out, dirs_exist_ok=True)
    shutil.copytree(run / "parts" / "clip", out / "clip", dirs_exist_ok=True)
    (out / FILE).write_text(json.dumps(lexicon(), indent=1) + "\n")
    write_digests(out)
    return publish_variants(run, recipe)


def _timed(options: argparse.Namespace, name: str, settings: Any) -> Any:
    """`settings` with the steps of a UNet that fit into the stage's share; it stops there even if it is slower."""
    seconds = _share(options, name)
    changes: dict[str, Any] = {"max_minutes": seconds / 60}
    if isinstance(settings, DiffusionSettings) and not options.steps:
        rate = options.rate / COSTS.get(name, 1.0)
        steps = max(20, round((seconds - COMPILE_SECONDS) * rate / settings.batch_size))
        changes |= {"steps": steps, "cooldown_steps": steps // 4}
    return replace(settings, **changes)


def _share(options: argparse.Namespace, name: str) -> float:
    return max(1.0, SHARES[name] * _left(options))


def _left(options: argparse.Namespace) -> float:
    return max(1.0, 60 * options.minutes - (time.monotonic() - START))


def _image_cache(options: argparse.Namespace, name: str) -> str:
    while not (options.run / f"{name}.done").exists():
        time.sleep(0.5)
    _say(f"{name}: images are there")
    return str((options.run / name / "pack").resolve())


def _bring_out(options: argparse.Namespace, name: str, export: Path) -> str:
    """Copies a stage's result, its log and its settings to `--out`; the folder it lies in."""
    from humansd.models.digests import LIST, write_digests
    from humansd.training.recipe import _make_half

    copy = options.run / "out" / name
    shutil.copytree(export, copy, dirs_exist_ok=True)
    _make_half(copy)
    if (copy / LIST).exists():
        write_digests(copy)  # of the halved files
    tar = f"tar cf - -C {copy.parent} {name} | split -b 14M -d - {options.out}/{name}.tar."
    subprocess.run(["bash", "-c", f"set -o pipefail; {tar}"], check=True)
    for file in ("log.jsonl", "config.json"):
        if (export.parent / file).exists():
            shutil.copy(export.parent / file, options.out / f"{name}-{file}")
    _say(f"{name}: brought out")
    return str(export.resolve())


def _say(text: str) -> None:
    print(f"[{time.monotonic() - START:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
