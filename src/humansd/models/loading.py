"""Parts of a diffusers folder or hub repository, always from safetensors and always in fp32."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from safetensors import SafetensorError

from humansd.core.digests import read_sha256
from humansd.models.digests import check_digests
from humansd.models.errors import ModelError

Loaded = TypeVar("Loaded")

_LARGEST_CONFIG, _LARGEST_NUMBER, _MOST_BLOCKS = 2**20, 10**7, 1000  # bytes; of any setting; entries of a list
_MOST = {
    "timesteps": 100_000,
    "layers": 256,
    "channels": 65_536,
    "heads": 1024,
    "hidden_size": 65_536,
    "sample_size": 8192,
}
# Weights of diffusers' and transformers' folders: plain, of a variant, and in parts of either.
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_)?model(?:-\d+-of-\d+)?(?:\.([\w-]+?))?(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?"
)
_POSE_NETWORKS = ("pose_network", "controlnet", "adapter")  # parts of pipelines, ours and diffusers'
_PICKLED = (".bin", ".ckpt", ".pt", ".pth")
_BUFFERS = ("position_ids",)  # older checkpoints carry them; they are computed
HUB_PATIENCE = 6.0  # seconds that the hub has to answer; its client alone would try every file for half a minute
HUB_MEMORY = 30.0  # seconds for which the answer holds


class HubError(OSError):
    """The hub does not answer, and the local cache cannot help; the message says so in one line."""


def load_part(kind: Any, source: str | os.PathLike[str], name: str = "", **options: Any) -> Any:
    """The part `name` of `source` (a folder or hub id) as class `kind`, fp32 unless `dtype` says otherwise.

    Without a name `source` is the part itself. A folder that has the weights of one variant alone (`.fp16.safetensors`)
    is read as that. With `output_loading_info` among the options the caller looks at what does not fit.

    Raises:
        HubError: a hub that does not answer.
        ModelError: a ValueError too; no such part, none in safetensors, or weights that are missing (they would be
            random), left over or of another shape; the message names them.
    """
    from transformers import PreTrainedModel  # late, as everywhere here: seconds, which not every command needs

    if name and Path(source).is_dir():
        check_digests(Path(source), name)
    stored: dict[str, Any] = {}
    if Path(source).is_dir():
        config = _config_of(Path(source), name)
        stored = check_sizes(config)
        check_types(stored, kind, config)
        options = {**_variant_of(Path(source) / name, options.get("variant")), **options}
    elif not on_hub(source):
        raise ModelError(f"{os.fspath(source)}: is no folder; name one in diffusers' layout, or a hub id")
    place = {"subfolder": name} if name else {}
    settings = {**single_precision(options), **place, "use_safetensors": True}
    if "output_loading_info" in options:
        return from_hub(kind.from_pretrained, source, **settings)
    told = f"{os.fspath(source)}/{name}" if name else os.fspath(source)
    if issubclass(kind, PreTrainedModel):  # which says where, but only if told to go on
        settings["ignore_mismatched_sizes"] = True
    try:
        with _no_reports():
            part, info = from_hub(kind.from_pretrained, source, **settings, output_loading_info=True)
    except HubError:
        raise
    except (RuntimeError, ValueError, SafetensorError) as error:  # a shape that does not fit, a file cut short
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise ModelError(
            f"{told}: not the weights of this {kind.__name__} ({reason}); copy the folder again"
        ) from error
    except OSError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        remedy = "copy the folder again" if Path(source).is_dir() else "name a folder, or another hub id"
        raise ModelError(f"{told}: cannot be loaded ({reason}); {remedy}") from error
    _check_loading(info, told, kind.__name__, stored.get("_class_name"))
    return part


def _config_of(folder: Path, name: str) -> Path:
    """The config of a part of a folder. ModelError where the folder is a whole pipeline, and a part is asked for."""
    config = folder / name / "config.json"
    if not name and not config.is_file() and (folder / "model_index.json").is_file():
        known = [part for part in _POSE_NETWORKS if (folder / part / "config.json").is_file()]
        raise ModelError(f"{folder}: a whole pipeline; name the folder of its part, {folder / (known or ['PART'])[0]}")
    return config


def _variant_of(folder: Path, asked: str | None) -> dict[str, str]:
    """The option `variant` for a folder that has the safetensors of variants alone; nothing where they are plain.

    Raises:
        ModelError: its weights are pickled, or of several variants of which none is fp16.
    """
    names = [file.name for file in folder.iterdir() if file.is_file()]
    found = [match[1] for name in names if (match := _WEIGHTS.fullmatch(name))]
    if asked is not None or None in found:
        return {}
    variants = sorted({one for one in found if one is not None})
    if "fp16" in variants or len(variants) == 1:
        return {"variant": "fp16" if "fp16" in variants else variants[0]}
    if variants:
        raise ModelError(f"{folder}: has the weights of {', '.join(variants)}; take all but one away")
    pickled = [name for name in sorted(names) if name.endswith(_PICKLED)]
    if pickled:
        raise ModelError(
            f"{folder}: its weights are pickled ({pickled[0]}), which no folder is read from; get its .safetensors, "
            "or save it again with save_pretrained(FOLDER, safe_serialization=True)"
        )
    return {}


def check_sizes(config: Path) -> dict[str, Any]:
    """The values of a config. ValueError where it asks for a network that nobody has: building it would never end."""
    try:
        if not config.is_file() or config.stat().st_size > _LARGEST_CONFIG:
            raise OSError("no such file, or a very large one")
        values = json.loads(config.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{config}: not a network's settings ({error}); copy the folder again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{config}: holds a {type(values).__name__}, not settings; copy the folder again")
    for key, value in values.items():
        if key == "lambda_min_clipped" and value == -math.inf:  # no limit, as diffusers' own schedulers save it
            continue
        most = next((limit for part, limit in _MOST.items() if part in key), _LARGEST_NUMBER)
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > _MOST_BLOCKS and not isinstance(value, str):
            raise ValueError(f"{config}: {key} has {len(numbers)} entries; mend it, or copy the folder again")
        for number in numbers:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise ValueError(f"{config}: {key} is {number!r}, {most} at most; mend it, or copy the folder again")
    return values


def check_types(values: dict[str, Any], kind: Any, config: Path) -> None:
    """ValueError where a value of a diffusers part's config is not of the type that its class asks for: most classes
    keep any, and fail when they compute. null always passes."""
    from diffusers import ConfigMixin

    if not issubclass(kind, ConfigMixin):
        return
    for key, hint in get_type_hints(kind.__init__).items():
        value = values.get(key)
        if value is not None and not _fits(value, hint):
            raise ValueError(f"{config}: {key} is {str(value)[:80]!r}, not {_spelt(hint)}; mend it, or copy it again")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of a type; of one that is not told apart here, any is."""
    fingerprint, inner = get_origin(hint), get_args(hint)
    if fingerprint in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if fingerprint in (tuple, list):
        return isinstance(value, list) and all(any(_fits(one, part) for part in inner) for one in value)
    if hint in (bool, str, dict):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool) and math.isfinite(value)
    return hint is not type(None)


def _spelt(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint).replace("typing.", "")


def _check_loading(info: dict[str, Any], source: str, kind: str, stored: Any) -> None:
    """stored: the class that the part's config names, None where it names none or is not here."""
    faults = {
        "missing": info.get("missing_keys"),
        "left over": [key for key in info.get("unexpected_keys") or () if not key.endswith(_BUFFERS)],
        "of another shape": [one[0] if isinstance(one, tuple) else one for one in info.get("mismatched_keys") or ()],
    }
    told = [f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])})" for what, keys in faults.items() if keys]
    if told:
        remedy = "copy the whole folder again" if stored in (None, kind) else f"it is a {stored}, name a {kind}"
        raise ModelError(f"{source}: not the weights of this {kind}: {'; '.join(told)}; {remedy}")


@contextmanager
def _no_reports() -> Iterator[None]:
    """Without the tables of what does not fit that the libraries print; it is told in one line instead."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(one, one.get_verbosity()) for one in (diffusers_logging, transformers_logging)]
    for library, _ in levels:
        library.set_verbosity(logging.CRITICAL)  # diffusers reports even what it raises
    try:
        yield
    finally:
        for library, level in levels:
            library.set_verbosity(level)


def from_hub(load: Callable[..., Loaded], source: str | os.PathLike[str], **options: Any) -> Loaded:
    """`load(source, **options)`, `load` being a `from_pretrained`; where `source` is on the hub, with little patience.

    A hub that does not answer within `HUB_PATIENCE` seconds is not asked for each file again and again: what lies in
    the local cache is used, and nothing else.

    Raises:
        HubError: the hub does not answer, and the cache holds no copy.
        Exception: what `load` raises.
    """
    if not on_hub(source):
        return load(source, **options)
    try:
        with warnings.catch_warnings():  # of an argument that diffusers still hands to the hub's client
            warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
            if options.get("local_files_only") or constants.HF_HUB_OFFLINE or hub_answers():
                return load(source, **options)
            return load(source, **{**options, "local_files_only": True})
    except OSError as error:
        if options.get("local_files_only") or constants.HF_HUB_OFFLINE or hub_answers():
            raise
        raise HubError(
            f"{source}: {constants.ENDPOINT} does not answer, and the local cache has no complete copy; connect to "
            "the network, or name a folder"
        ) from error


def on_hub(source: str | os.PathLike[str]) -> bool:
    """Whether `source` can only be a hub id: no file or folder of that name, and not the form of a path."""
    name = os.fspath(source)
    return not Path(name).exists() and name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def hub_answers() -> bool:
    """Whether the hub answers at all, whatever it answers; asked once in `HUB_MEMORY` seconds."""
    if time.monotonic() - _asked["when"] > HUB_MEMORY:
        _asked.update(when=time.monotonic(), answers=answers(constants.ENDPOINT))
    return bool(_asked["answers"])


_asked: dict[str, float] = {"when": -HUB_MEMORY - 1, "answers": False}


def answers(host: str) -> bool:
    """Whether the server `host` ("https://...") answers within `HUB_PATIENCE` seconds, whatever it answers."""
    heard: list[bool] = []
    # In a thread, because looking up a name has no time limit of its own.
    asking = threading.Thread(target=lambda: heard.append(_ask(host)), daemon=True)
    asking.start()
    asking.join(HUB_PATIENCE)
    return bool(heard and heard[0])


def _ask(host: str) -> bool:
    try:
        get_session().head(host, timeout=HUB_PATIENCE)
    except Exception:  # of the network library in use; any of them means that nobody is there
        return False
    return True


def single_precision(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a `from_pretrained`, with fp32 where they name no `dtype` (or `torch_dtype`, its older name)."""
    return options if {"dtype", "torch_dtype"} & options.keys() else {**options, "dtype": torch.float32}


def weights_digest(source: str | os.PathLike[str]) -> str:
    """A short digest of all safetensors under a folder, or of a file; a hub id is its own."""
    folder = Path(source)
    if folder.is_file():
        return read_sha256(folder)[:16]
    if not folder.is_dir():
        return str(source)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(bytes.fromhex(read_sha256(path)))
    return digest.hexdigest()[:16]
