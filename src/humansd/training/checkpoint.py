"""Checkpoints: everything a run needs to go on, in safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from humansd.data.files import write_json

KEEP = 2


@dataclass
class Progress:
    """How far a run is; kept in the checkpoint."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    devices: list[str] = field(default_factory=list)


def save_checkpoint(
    run: Path,
    progress: Progress,
    module: torch.nn.Module,
    ema: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> Path:
    """Writes `run/checkpoints/step-N`, first under another name, then renamed; the last two are kept."""
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    names = [name for name, _ in module.named_parameters()]
    files = {
        "model.safetensors": dict(module.state_dict()),
        "ema.safetensors": dict(zip(names, ema, strict=True)),
        "optimizer.safetensors": _optimizer_tensors(optimizer, names),
    }
    digests = {}
    for name, tensors in files.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial / name)
        digests[name] = _digest(partial / name)
    write_json(partial / "state.json", {"progress": vars(progress), "sha256": digests})
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    for old in checkpoints(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-????????") if (path / "state.json").exists())


def load_checkpoint(
    run: Path, module: torch.nn.Module, ema: list[torch.Tensor], optimizer: torch.optim.Optimizer
) -> Progress:
    """Restores the newest checkpoint of `run` in place; a fresh `Progress` if there is none.

    Raises:
        ValueError: a file of the checkpoint is damaged, or belongs to a network of other sizes.
    """
    found = checkpoints(run)
    if not found:
        return Progress()
    folder = found[-1]
    state = json.loads((folder / "state.json").read_text())
    for name, digest in state["sha256"].items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{folder / name} is damaged; delete {folder} to go on from the checkpoint before it")
    names = [name for name, _ in module.named_parameters()]
    try:
        module.load_state_dict(load_file(folder / "model.safetensors"))
        averages = load_file(folder / "ema.safetensors")
        for name, tensor in zip(names, ema, strict=True):
            tensor.copy_(averages[name])
        _restore_optimizer(optimizer, names, load_file(folder / "optimizer.safetensors"))
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: of a network of another shape ({reason}); use another --out") from error
    return Progress(**state["progress"])


def settle_config(run: Path, config: dict[str, Any], may_change: frozenset[str]) -> None:
    """Writes `run/config.json`, or checks that a run begun earlier had the same settings.

    Raises:
        ValueError: a setting differs that makes it another run.
    """
    path = run / "config.json"
    if path.exists():
        before = json.loads(path.read_text())
        for key in sorted((before.keys() | config.keys()) - may_change):
            if before.get(key) != config.get(key):
                raise ValueError(
                    f"{path}: {key} was {before.get(key)!r} and is now {config.get(key)!r}; "
                    "use the same settings to resume, or another --out for a new run"
                )
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, config)


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{names[index]}|{key}": torch.as_tensor(value) for index, slot in state.items() for key, value in slot.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    index = {name: i for i, name in enumerate(names)}
    for key, value in tensors.items():
        name, slot = key.rsplit("|", 1)
        state.setdefault(index[name], {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
