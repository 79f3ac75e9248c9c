"""The pocket models from nothing, resumable: images, VAE, towers, base, HumanSD, estimators, HumanSD once more with
the heatmap-guided loss, and what ships."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from humansd.core.files import write_text
from humansd.core.lock import locked
from humansd.data.image_cache import build_image_cache
from humansd.inference.variants import Variant, write_variant
from humansd.inference.words import FILE as WORDS
from humansd.models.digests import write_digests
from humansd.models.folders import compact
from humansd.models.pocket import pocket_scheduler
from humansd.models.tiny_decoder import FOLDER as TINY
from humansd.pipelines.schedulers import make_scheduler
from humansd.synthetic.dataset import write_atelier
from humansd.synthetic.lexicon import lexicon
from humansd.training.card import estimator_card, model_card
from humansd.training.checkpoint import Progress
from humansd.training.loop import Task, train
from humansd.training.settings import DistillationSettings, FewStepSettings, PocketRecipe
from humansd.training.tasks.autoencoder import AutoencoderTask
from humansd.training.tasks.clip import ClipTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.distillation import DistillationTask
from humansd.training.tasks.estimators import EstimatorTask
from humansd.training.tasks.few_steps import FewStepTask
from humansd.training.tasks.latent_head import HeadTask
from humansd.training.tasks.tiny_decoder import TinyDecoderTask

# Of what ships: on 256 poses AP 20.4 (95 % interval 16.8 to 24.9), of 25 steps of DDIM 20.2 (16.6 to 24.7).
SHIPPED_SCHEDULER, SHIPPED_STEPS = "dpm++-2m", 8
FORMER_FOLDERS = {
    "towers": "clip",
    "judge": "centernet",
    "guided": "finetune",
    "judge_data": "held_out_data",
    "guided_data": "finetune_data",
}
# What made the pocket model, and the small files beside it.
MODEL_STAGES = ("vae", "clip", "base", "humansd", "head", "finetune", "one_branch", "four_steps", "tiny_decoder")


class StageUnfinished(ValueError):
    """A stage stopped at its time limit; the message says how to go on."""


def run_pocket(recipe: PocketRecipe, run: Path) -> Path:
    """Runs every stage of `recipe` in `run`, skipping what is done; returns the folder of the finished model.

    The same call after a kill goes on where it stopped, on the same or another device.
    """
    with locked(run, "the pocket recipe"):
        return _run_pocket(recipe, run)


def _run_pocket(recipe: PocketRecipe, run: Path) -> Path:
    _rename_former(run)
    table: dict[str, Progress] = {}

    def stage(name: str, task: Task) -> str:
        table[name] = train(task, run / name)
        if table[name].step < task.settings.steps:
            raise StageUnfinished(
                f"{name}: stopped at step {table[name].step} of {task.settings.steps} by max_minutes; "
                "give the same command again to go on"
            )
        return str((run / name / "export").resolve())

    first = make_images(replace(recipe, images=recipe.vae_images), run / "vae_data", recipe.vae_seed)
    stage("vae", AutoencoderTask(replace(recipe.vae, data=first)))
    image_cache = make_images(recipe, run, recipe.seed)
    stage("clip", ClipTask(replace(recipe.clip, data=image_cache)))
    components = str(assemble_components(run).resolve())
    base = stage("base", DiffusionTask(replace(recipe.base, data=image_cache, components=components)))
    humansd = stage(
        "humansd", DiffusionTask(replace(recipe.humansd, data=image_cache, components=base, base_model=base))
    )
    estimator = stage("higherhrnet", EstimatorTask(replace(recipe.higherhrnet, data=image_cache)))
    publish_estimator(run, recipe, "higherhrnet", table["higherhrnet"])
    others = make_images(recipe, run / "held_out_data", recipe.held_out_seed)
    stage("centernet", EstimatorTask(replace(recipe.centernet, data=others)))
    publish_estimator(run, recipe, "centernet", table["centernet"])
    more = make_images(replace(recipe, images=recipe.finetune_images), run / "finetune_data", recipe.finetune_seed)
    head_task = HeadTask(replace(recipe.head, data=more, components=base, base_model=humansd, estimator=estimator))
    head = stage("head", head_task)
    finetune = replace(recipe.finetune, head=head, estimator=estimator)  # of which its loss asks one
    model = stage("finetune", DiffusionTask(replace(finetune, data=more, components=base, base_model=humansd)))
    one_branch, four_steps = distillations(recipe, more, model)
    lora = stage("one_branch", DistillationTask(one_branch))
    stage("four_steps", FewStepTask(replace(four_steps, teacher_lora=lora)))
    vae = str((run / "vae" / "export").resolve())
    stage("tiny_decoder", TinyDecoderTask(replace(recipe.tiny_decoder, data=image_cache, init=vae)))
    publish(run, recipe, {name: table[name] for name in MODEL_STAGES})
    return publish_variants(run, recipe)


def _rename_former(run: Path) -> None:
    """Folders of a run that an earlier version began, under their names of now."""
    for former, now in FORMER_FOLDERS.items():
        if (run / former).is_dir() and not (run / now).exists():
            (run / former).rename(run / now)


def make_images(recipe: PocketRecipe, folder: Path, seed: int) -> str:
    """Atelier images as shards, and the pack for training, whose folder is returned."""
    write_atelier(folder / "shards", recipe.images, size=recipe.size, seed=seed, workers=recipe.workers)
    build_image_cache(folder / "shards", folder / "pack", recipe.workers)
    return str((folder / "pack").resolve())


def assemble_components(run: Path) -> Path:
    """The frozen parts of the diffusion stages as one diffusers folder."""
    parts = run / "parts"
    shutil.copytree(run / "vae" / "export", parts / "vae", dirs_exist_ok=True)
    for name in ("text_encoder", "tokenizer", "clip"):
        shutil.copytree(run / "clip" / "export" / name, parts / name, dirs_exist_ok=True)
    pocket_scheduler().save_pretrained(parts / "scheduler")
    return parts


def publish(run: Path, recipe: PocketRecipe, table: dict[str, Progress]) -> Path:
    """`run/pocket`, what ships: HumanSD's pipeline with both towers in fp16, a card and the log of the training.

    table: the stages that made it. `run/notes.md`, if there is one, goes into the model card.
    """
    out = run / "pocket"
    shutil.copytree(run / "finetune" / "export", out, dirs_exist_ok=True)
    shutil.copytree(run / "parts" / "clip", out / "clip", dirs_exist_ok=True)
    _make_half(out)
    _draw_in_few_steps(out)
    for path in out.glob("*/config.json"):  # where a part was loaded from is nobody's business
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        write_text(path, json.dumps(config, indent=2) + "\n")
    for path in out.glob("*/tokenizer.json"):  # half the size without its spaces
        write_text(path, json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")
    rows = {name: vars(progress) | {"loss": _last_loss(run / name)} for name, progress in table.items()}
    log = {"recipe": asdict(recipe), "stages": rows}
    write_text(out / "training.json", json.dumps(log, indent=1) + "\n")
    notes = run / "notes.md"
    history = notes.read_text() if notes.exists() else ""
    write_text(out / "README.md", model_card(recipe, _parts(out), rows, history))
    write_text(out / WORDS, json.dumps(lexicon(), indent=1) + "\n")
    write_digests(out)  # of the files as they are now
    return out


def _draw_in_few_steps(model: Path) -> None:
    """Gives the model the sampler that it ships with, in place of the one that it was trained and validated by."""
    own = make_scheduler(SHIPPED_SCHEDULER, DDIMScheduler.from_pretrained(model / "scheduler"))
    own.save_pretrained(model / "scheduler")
    index = json.loads((model / "model_index.json").read_text())
    index |= {"scheduler": ["diffusers", type(own).__name__], "num_inference_steps": SHIPPED_STEPS}
    write_text(model / "model_index.json", json.dumps(index, indent=2, sort_keys=True) + "\n")


def publish_estimator(run: Path, recipe: PocketRecipe, name: str, progress: Progress) -> Path:
    """`run/estimators/NAME`, a pocket estimator in int8 and fp16 with its card; `run/NAME.md`, if there is one, says in
    it what was measured."""
    out = run / "estimators" / name
    shutil.copytree(run / name / "export", out, dirs_exist_ok=True)
    _make_half(out)
    for path in out.glob("*.safetensors"):
        save_file(compact(load_file(path)), path, metadata={"format": "pt"})
    notes = run / f"{name}.md"
    measured = notes.read_text() if notes.exists() else ""
    write_text(out / "README.md", estimator_card(recipe, name, vars(progress), measured))
    return out


def distillations(recipe: PocketRecipe, data: str, model: str) -> tuple[DistillationSettings, FewStepSettings]:
    """The settings of both, at the guidance of the model that is distilled."""
    guided: Any = {name: getattr(recipe.finetune, name) for name in ("guidance_scale", "pose_guidance_scale")}
    one_branch = replace(recipe.one_branch, data=data, base_model=model, **guided)
    return one_branch, replace(recipe.four_steps, data=data, base_model=model, **guided)


def publish_variants(run: Path, recipe: PocketRecipe) -> Path:
    """Puts those small files that are there into `run/pocket`: one branch, which draws where nothing else is asked,
    four steps, and the small decoder, which four steps take."""
    out = run / "pocket"
    tiny = (run / "tiny_decoder" / "export").is_dir()
    if tiny:
        shutil.copytree(run / "tiny_decoder" / "export", out / TINY, dirs_exist_ok=True)
        _make_half(out / TINY)
        write_digests(out)
    one_branch = Variant(recipe.one_branch.inference_steps, scheduler="dpm++-2m")
    decoder = "tiny" if tiny else "full"
    four_steps = Variant(recipe.four_steps.inference_steps, scheduler="ddim", decoder=decoder)
    for name, settings in (("four_steps", four_steps), ("one_branch", one_branch)):
        lora = run / name / "export"
        if lora.is_dir():
            write_variant(out, name.replace("_", "-"), lora, settings, default=name == "one_branch")
    return out


def _make_half(folder: Path) -> None:
    """All weights of the folder in fp16; what only training needs is removed."""
    for path in folder.rglob("*.safetensors"):
        save_file({k: _half(v) for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    for path in folder.rglob("progress.json"):
        path.unlink()


def _parts(folder: Path) -> dict[str, tuple[str, int]]:
    """Class and parameter count of everything with weights in a pipeline folder."""
    index = json.loads((folder / "model_index.json").read_text())
    names = {name: entry[1] for name, entry in index.items() if isinstance(entry, list)} | {"clip": "CLIPModel"}
    files = {name: list((folder / name).glob("*.safetensors")) for name in names}
    return {
        name: (names[name], sum(tensor.numel() for tensor in load_file(paths[0]).values()))
        for name, paths in files.items()
        if paths
    }


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()


def _last_loss(run: Path) -> float | None:
    """Mean loss of the last tenth of the log."""
    path = run / "log.jsonl"
    if not path.exists():
        return None
    losses = [json.loads(line)["loss"] for line in path.read_text().splitlines()]
    tail = losses[-max(1, len(losses) // 10) :]
    return round(sum(tail) / len(tail), 5) if tail else None
