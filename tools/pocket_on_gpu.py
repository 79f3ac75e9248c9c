"""The pocket recipe on a GPU that is rented by the minute.

    python tools/pocket_on_gpu.py --run WORK --out RESULTS --minutes 13 [--vae FOLDER]

What each stage made is written to RESULTS as soon as it is there, in fp16 and in parts of at most 14 MB, so that a
machine that is taken away costs one stage: `cat RESULTS/NAME.tar.* | tar xf -`. While the GPU learns from the first
images, the other cores draw those of the later stages. Measured on an H100 with 16 cores: 88 images a second, 3,700
samples a second through the compiled UNet (2,500 to 3,200 with all that is around it), 70 seconds to compile each UNet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from humansd.data.image_cache import build_image_cache
from humansd.synthetic.dataset import write_atelier
from humansd.training.presets import ONE_BRANCH, POCKET
from humansd.training.settings import DiffusionSettings, PocketRecipe

START = time.monotonic()
COMPILE_SECONDS = 75
SHARES = {
    "vae": 0.25,
    "clip": 0.08,
    "base": 0.25,
    "humansd": 0.6,
    "one-branch": 0.15,
}  # of the time left when the stage begins
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
    parser.add_argument("--rate", type=float, default=2800, help="samples a second of the UNet (default: 2800)")
    parser.add_argument("--images", type=int, nargs=2, default=(8000, 18000), help="for the first and later stages")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--draw", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _recipe(options: argparse.Namespace) -> PocketRecipe:
    loop = {"device": options.device, "report_to": "none", "save_minutes": 60.0}
    unet = {**loop, "log_images_minutes": 0.0, "gradient_accumulation_steps": 1}
    if options.device == "cpu":
        unet |= {"compile": "no"}
    return replace(
        POCKET,
        vae=replace(POCKET.vae, **loop, compile="auto"),
        clip=replace(POCKET.clip, **loop, vocabulary=2000),
        base=replace(POCKET.base, **unet),
        humansd=replace(POCKET.humansd, **unet),
    )


def _draw(options: argparse.Namespace) -> None:
    """The images of both parts, one after the other; `NAME.done` says that a pack is there."""
    for name, count, seed in zip(IMAGES, options.images, (POCKET.vae_seed, POCKET.seed), strict=True):
        folder = options.run / name
        write_atelier(folder / "shards", count, size=POCKET.size, seed=seed, workers=options.workers, progress=False)
        build_image_cache(folder / "shards", folder / "pack", options.workers)
        (options.run / f"{name}.done").touch()


def _learn(options: argparse.Namespace, recipe: PocketRecipe) -> None:
    from humansd.training.loop import train
    from humansd.training.recipe import assemble_components
    from humansd.training.tasks.autoencoder import AutoencoderTask
    from humansd.training.tasks.clip import ClipTask
    from humansd.training.tasks.diffusion import DiffusionTask
    from humansd.training.tasks.distillation import DistillationTask

    run = options.run
    first = _image_cache(options, "first")
    if options.vae:
        shutil.copytree(options.vae, run / "vae" / "export", dirs_exist_ok=True)
    else:
        limit = _share(options, "vae") / 60
        train(AutoencoderTask(replace(recipe.vae, data=first, max_minutes=limit)), run / "vae")
        _bring_out(options, "vae", run / "vae" / "export")
    clip = replace(recipe.clip, data=first, max_minutes=_share(options, "clip") / 60)
    train(ClipTask(clip), run / "clip")
    _bring_out(options, "clip", run / "clip" / "export")
    parts = str(assemble_components(run).resolve())
    train(DiffusionTask(_timed(options, "base", replace(recipe.base, data=first, parts=parts))), run / "base")
    base = _bring_out(options, "base", run / "base" / "export")
    later = _image_cache(options, "later")
    humansd = _timed(options, "humansd", replace(recipe.humansd, data=later, parts=base, base=base))
    train(DiffusionTask(humansd), run / "humansd")
    model = _bring_out(options, "humansd", run / "humansd" / "export")
    own = ("device", "report_to", "save_minutes", "log_images_minutes", "compile", "guidance", "pose_guidance_scale")
    distilled = replace(ONE_BRANCH, **{name: getattr(humansd, name) for name in own}, data=later, base=model)
    train(DistillationTask(replace(distilled, max_minutes=_left(options) / 60)), run / "one-branch")
    _bring_out(options, "one-branch", run / "one-branch" / "export")


def _timed(options: argparse.Namespace, name: str, settings: DiffusionSettings) -> DiffusionSettings:
    """`settings` with the steps that fit into the stage's share; it stops there even if it is slower."""
    seconds = _share(options, name)
    steps = max(20, round((seconds - COMPILE_SECONDS) * options.rate / settings.batch_size))
    return replace(settings, steps=steps, cooldown_steps=steps // 4, max_minutes=seconds / 60)


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
    from humansd.training.recipe import _make_half

    copy = options.run / "out" / name
    shutil.copytree(export, copy, dirs_exist_ok=True)
    _make_half(copy)
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
