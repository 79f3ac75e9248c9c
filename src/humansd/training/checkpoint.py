"""Checkpoints: everything a run needs to go on, in safetensors and JSON, written whole or not at all.

`model`, `ema` and `optimizer` are a file each, or several parts where a network is large, so that saving and loading
take little more memory than the run itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from humansd.core.digests import read_sha256
from humansd.core.files import write_json
from humansd.core.names import renamed
from humansd.training.ema import EMA
from humansd.training.files import full_disk_named
from humansd.training.identity import same_place
from humansd.training.settings import IDENTITIES

KEEP = 2
PART_BYTES = 500_000_000  # of tensors in one file; writing it takes about twice as much memory


@dataclass
class Progress:
    """How far a run is; kept in the checkpoint."""

    step: int = 0  # updates done
    samples: int = 0  # seen or passed over; the next batch begins there
    seconds: float = 0.0  # of training, over all stops
    devices: list[str] = field(default_factory=list)  # in the order in which they were first used
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
    ema: EMA,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
) -> Path:
    """Writes `run/checkpoints/step-N`, first under another name, then renamed; the last two are kept.

    Raises:
        DiskError: the disk is full; what was written of this checkpoint is removed, and the ones before it stay.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    kinds = _tensors(module, ema, optimizer)
    needed = sum(tensor.nbytes for tensors in kinds.values() for tensor in tensors.values())
    last = checkpoints(run)[-1].name if checkpoints(run) else "the beginning"
    with full_disk_named(folder, needed, f"the same command goes on from {last}"):
        try:
            partial.mkdir(parents=True)
            _write(partial, progress, kinds, scaler)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    for old in checkpoints(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def _tensors(module: torch.nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    names = [name for name, _ in module.named_parameters()]
    return {
        "model": dict(module.state_dict()),
        "ema": dict(zip(names, ema.tensors)),  # none without averages
        "optimizer": _optimizer_tensors(optimizer, names),
    }


def _write(partial: Path, progress: Progress, kinds: Mapping[str, dict[str, torch.Tensor]], scaler: Any) -> None:
    digests: dict[str, str] = {}
    for kind, tensors in kinds.items():
        digests |= _write_shards(partial, kind, tensors)
    state = {"progress": vars(progress), "sha256": digests}
    write_json(partial / "state.json", state | ({"scaler": scaler.state_dict()} if scaler is not None else {}))
    for path in partial.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_shards(folder: Path, kind: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Writes `KIND.safetensors`, or `KIND-00001.safetensors` and so on; the sha256 of each file, by name."""
    parts = _parts(tensors)
    names = [f"{kind}-{i:05d}.safetensors" for i in range(1, len(parts) + 1)]
    digests = {}
    for name, keys in zip(names if len(parts) > 1 else [f"{kind}.safetensors"], parts):
        data = save({key: tensors[key].detach().cpu().contiguous() for key in keys})
        (folder / name).write_bytes(data)  # safetensors' own writer hides that a disk is full
        digests[name] = hashlib.sha256(data).hexdigest()
        del data  # before the next part is made
    return digests


def _parts(tensors: dict[str, torch.Tensor]) -> list[list[str]]:
    """The names in order, cut so that no part is larger than PART_BYTES unless one tensor alone is."""
    parts: list[list[str]] = [[]]
    size = 0
    for key, tensor in tensors.items():
        if parts[-1] and size + tensor.nbytes > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(key)
        size += tensor.nbytes
    return parts


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-????????") if (path / "state.json").exists())


def load_checkpoint(
    run: Path,
    module: torch.nn.Module,
    ema: EMA,
    optimizer: torch.optim.Optimizer,
    scaler: Any = None,
) -> Progress:
    """Restores the newest checkpoint of `run` in place; a fresh `Progress` if there is none.

    Raises:
        ValueError: a file of the checkpoint is damaged or missing, or belongs to a network of other sizes.
    """
    found = checkpoints(run)
    if not found:
        return Progress()
    folder = found[-1]
    state = json.loads((folder / "state.json").read_text())
    for name, digest in state["sha256"].items():
        if _digest(folder / name) != digest:
            trouble = "damaged" if (folder / name).exists() else "missing"
            raise ValueError(f"{folder / name} is {trouble}; delete {folder} to go on from the checkpoint before it")
    parameters = dict(module.named_parameters())
    files = [folder / name for name in sorted(state["sha256"])]
    kinds = {kind: [path for path in files if path.name.startswith(kind)] for kind in ("model", "ema", "optimizer")}
    try:
        _fill(dict(module.state_dict()), kinds["model"])
        _fill(dict(zip(parameters, ema.tensors)), kinds["ema"])
        _restore_optimizer(optimizer, parameters, kinds["optimizer"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder}: of a network of another shape ({reason}); use another --out") from error
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])
    return Progress.from_json(state["progress"])


def settle_config(
    run: Path, config: dict[str, Any], may_change: Collection[str], defaults: Mapping[str, Any] | None = None
) -> None:
    """Writes `run/config.json`, or checks that a run begun earlier had the same settings.

    A setting that names a folder is the same where what is there is the same (`identity.same_place`).

    defaults: what a setting was that the earlier run did not know yet.

    Raises:
        ValueError: settings differ that make it another run; all are named.
        OSError: the disk does not take it; what was there stays.
    """
    path = run / "config.json"
    if path.exists():
        known = renamed(json.loads(path.read_text()))
        before = {**(defaults or {}), **known}
        keys = sorted((before.keys() | config.keys()) - set(may_change))
        changed = [key for key in keys if before.get(key) != config.get(key)]
        changed = [key for key in changed if key not in IDENTITIES or not same_place(key, before, config)]
        if changed:
            told = "; ".join(f"{key} was {before.get(key)!r} and is now {config.get(key)!r}" for key in changed)
            raise ValueError(f"{path}: {told}; use the same settings to resume, or another --out for a new run")
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, config)


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{names[index]}|{key}": torch.as_tensor(value) for index, slot in state.items() for key, value in slot.items()
    }


def _saved(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the files, one after the other; a tensor is a view into its file and asks for no memory."""
    for path in files:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                yield key, file.get_tensor(key)


@torch.no_grad()
def _fill(tensors: dict[str, torch.Tensor], files: list[Path]) -> None:
    """Copies what was saved into `tensors`. KeyError, RuntimeError: one is missing, left over or of other shape."""
    missing = set(tensors)
    for key, saved in _saved(files):
        if tensors[key].shape != saved.shape:
            raise RuntimeError(f"{key} was saved as {tuple(saved.shape)} and is {tuple(tensors[key].shape)}")
        tensors[key].copy_(saved)
        missing.remove(key)
    if missing:
        raise KeyError(f"{min(missing)} was not saved")


@torch.no_grad()
def _restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter], files: list[Path]
) -> None:
    """Fills the state of the optimiser, which is made new."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    index = {name: i for i, name in enumerate(parameters)}
    optimizer.state.clear()  # what a rewind throws away, before the memory is needed
    for key, saved in _saved(files):
        name, slot = key.rsplit("|", 1)
        state.setdefault(index[name], {})[slot] = _like(parameters[name], saved)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(parameter: torch.nn.Parameter, saved: torch.Tensor) -> torch.Tensor:
    """A copy; a moment's lies in memory as its parameter does, because fused AdamW walks both in the order of memory.

    load_state_dict keeps a tensor of its parameter's device and type as it is.
    """
    if saved.shape != parameter.shape:
        return saved.clone()
    return torch.empty_like(parameter, dtype=saved.dtype).copy_(saved)


def _digest(path: Path) -> str:
    return read_sha256(path) if path.exists() else ""
