"""Checkpoints: everything a run needs to go on, in safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from humansd.data.files import write_json
from humansd.training.averages import Averages

KEEP = 2


@dataclass
class Progress:
    """How far a run is; kept in the checkpoint."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    devices: list[str] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)  # first samples of batches that were passed over
    recent: list[float] = field(default_factory=list)  # the last losses
    best: float | None = None  # the highest score of a validation
    since_best: int = 0  # validations since
    stopped: bool = False  # early, because nothing got better

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """The progress that was saved, also by a version that knew less."""
        return cls(**values)

    def finished(self, steps: int) -> bool:
        """Whether a run of so many steps has nothing left to do."""
        return self.step >= steps or self.stopped

    def note_device(self, name: str) -> None:
        """Adds a device to those the run has seen."""
        if name not in self.devices:
            self.devices.append(name)

    def note_score(self, score: float, patience: int) -> bool:
        """Whether this validation is the best so far; after `patience` worse ones the run stops (0: never)."""
        if self.best is None or score > self.best:
            self.best, self.since_best = (None if math.isnan(score) else score), 0
            return not math.isnan(score)
        self.since_best += 1
        self.stopped = 0 < patience <= self.since_best
        return False


def save_checkpoint(
    run: Path,
    progress: Progress,
    module: torch.nn.Module,
    averages: Averages,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
) -> Path:
    """Writes `run/checkpoints/step-N`, first under another name, then renamed; the last two are kept.

    Raises:
        OSError: the disk is full; what was written of this checkpoint is removed.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write(partial, progress, module, averages, optimizer, scaler)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC, f"{run}: the disk is full; make room, then the same command goes on from the last checkpoint"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    for old in checkpoints(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def _write(
    partial: Path,
    progress: Progress,
    module: torch.nn.Module,
    averages: Averages,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
) -> None:
    names = [name for name, _ in module.named_parameters()]
    files = {
        "model.safetensors": dict(module.state_dict()),
        "ema.safetensors": dict(zip(names, averages.tensors)),  # none without averages
        "optimizer.safetensors": _optimizer_tensors(optimizer, names),
    }
    digests = {}
    for name, tensors in files.items():
        data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
        (partial / name).write_bytes(data)  # safetensors' own writer hides that a disk is full
        digests[name] = hashlib.sha256(data).hexdigest()
    state = {"progress": vars(progress), "sha256": digests}
    write_json(partial / "state.json", state | ({"scaler": scaler.state_dict()} if scaler is not None else {}))
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-????????") if (path / "state.json").exists())


def load_checkpoint(
    run: Path,
    module: torch.nn.Module,
    averages: Averages,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
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
        saved = load_file(folder / "ema.safetensors")
        for name, tensor in zip(names, averages.tensors):
            tensor.copy_(saved[name])
        _restore_optimizer(optimizer, names, load_file(folder / "optimizer.safetensors"))
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: of a network of another shape ({reason}); use another --out") from error
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])
    return Progress.from_json(state["progress"])


def settle_config(
    run: Path, config: dict[str, Any], may_change: frozenset[str], defaults: Mapping[str, Any] | None = None
) -> None:
    """Writes `run/config.json`, or checks that a run begun earlier had the same settings.

    defaults: what a setting was that the earlier run did not know yet.

    Raises:
        ValueError: a setting differs that makes it another run.
    """
    path = run / "config.json"
    if path.exists():
        before = {**(defaults or {}), **json.loads(path.read_text())}
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
    # Fused AdamW walks parameter and moments in the order of memory, so their layouts must be the same.
    for parameter, slots in optimizer.state.items():
        for slot, tensor in slots.items():
            if tensor.shape == parameter.shape:
                slots[slot] = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
