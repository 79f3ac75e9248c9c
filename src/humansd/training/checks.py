"""What a run refuses before it loads anything, and what it says of its data; a dry run does the same."""

from __future__ import annotations

import dataclasses
import glob
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from humansd.data.sample import SampleError, decode_sample
from humansd.data.shards import listed_shards, read_members
from humansd.models.names import SHIPPED, weights_folder
from humansd.training.loop_settings import learning_rate_factor
from humansd.training.settings import PocketRecipe

SAMPLES = 32  # of the data, that are looked at
Settings = TypeVar("Settings", bound=Any)


def with_shipped(settings: Settings) -> Settings:
    """The same with the folder of a shipped model where `base_model` or `components` is its name."""
    named = {name: getattr(settings, name, "") for name in ("base_model", "components")}
    folders = {name: str(weights_folder(value)) for name, value in named.items() if value in SHIPPED}
    return dataclasses.replace(settings, **folders) if folders else settings


def check_inputs(name: str, settings: Any) -> None:
    """Whether what the settings name is there.

    Raises:
        ValueError, OSError: it is not, or is of another kind; the message names the setting and the remedy.
    """
    for one in _stages(settings):
        for field in ("data", "subject", "base_model", "components", "init", "head", "teacher_lora"):
            value = getattr(one, field, "")
            if value:
                _check_place(name, field, value)
        one.share(1)
        _tell_of_schedule(one)
    from humansd.methods.table import find_method  # late: its networks' libraries take seconds

    for one in _stages(settings):
        if hasattr(one, "method"):
            find_method(one.method)
        if getattr(one, "data", ""):
            _tell_of_data(one)


def _stages(settings: Any) -> Iterator[Any]:
    if not isinstance(settings, PocketRecipe):
        yield settings
        return
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield value


def _check_place(name: str, field: str, value: str) -> None:
    path = Path(value).expanduser()
    hub = field in ("base_model", "components") and value.count("/") <= 1 and not value.startswith((".", "/", "~"))
    if hub or path.exists() or (field in ("data", "subject") and glob.glob(value)):
        return
    what = (
        "shards or of an image cache"
        if field in ("data", "subject")
        else "a model"
        if field in ("base_model", "components")
        else "weights"
    )
    raise FileNotFoundError(f"{name}: {field} = {value!r}: no such folder; name a folder of {what}")


def _tell_of_schedule(settings: Any) -> None:
    """A UserWarning where warm-up and cool-down take more steps than there are."""
    warm = settings.lr_warmup_steps
    cool = settings.cooldown_steps if settings.lr_scheduler == "constant" else 0
    if warm + cool <= settings.steps:
        return
    most = max(learning_rate_factor(settings, step) for step in range(settings.steps))
    both, without = f"lr_warmup_steps = {warm}", "--set lr_warmup_steps=0"
    if cool:
        both, without = f"{both} and cooldown_steps = {cool}", f"{without} --set cooldown_steps=0"
    warnings.warn(
        f"steps = {settings.steps}: fewer than {both}, so the learning rate rises to {most:.0%} of learning_rate at "
        f"most; for all of it shorten them, as with {without}",
        UserWarning,
        stacklevel=3,
    )


def _tell_of_data(settings: Any) -> None:
    """A UserWarning where the first samples have nobody in them, or no caption, and the run learns from these.

    Raises ValueError where no sample of all can be read: the images of a run are made when its networks are loaded.
    """
    folder, learnt = Path(settings.data), settings.learns_from()
    if (folder / "about.json").exists():
        return
    faults: list[str] = []
    records = list(itertools.islice(_records(folder, faults), SAMPLES))
    if not records and faults:
        raise ValueError(f"{folder}: not one of {len(faults)} samples can be read, the first: {faults[0]}")
    first = f"{folder}: none of the first {len(records)} samples has"
    if records and "pose" in learnt and not any(people for people, _ in records):
        warnings.warn(f"{first} people with key points, so no pose is learnt from it", UserWarning, stacklevel=3)
    if records and "text" in learnt and not any(caption for _, caption in records):
        warnings.warn(f"{first} a caption, so no text is learnt from it", UserWarning, stacklevel=3)


def _records(folder: Path, faults: list[str]) -> Iterator[tuple[int, str]]:
    """(people with a labelled joint, caption) of the samples that can be read; `faults` gains what is wrong with the
    others."""
    for path in listed_shards(folder):
        for members in read_members(path):
            try:
                sample = decode_sample(members)
            except SampleError as error:
                faults.append(f"{path.name}: {error}")
                continue
            yield int(sample.people.labelled.any(axis=1).sum()), sample.caption.strip()
