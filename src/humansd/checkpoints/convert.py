"""Published checkpoints, which are pickled, to folders of this package: the one place that opens them.

They are read by `torch_files`, which rebuilds tensors and plain containers and runs nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from humansd.checkpoints.inert_pickle import PickleError, skipped_kinds
from humansd.checkpoints.torch_files import Stored, read_torch_file
from humansd.core.digests import file_sha256
from humansd.models.folders import check_fit
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, HigherHRNetConfig, load_published, published_name
from humansd.models.inception import PUBLISHED_FILE, PUBLISHED_SHA256, Inception, InceptionConfig

WRAPPERS = ("state_dict", "model", "model_state_dict")  # where checkpoints of various trainers keep their weights


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The weights of a PyTorch checkpoint, by name; no code in it is run, whatever it holds.

    What a trainer left beside the weights (PyTorch Lightning's callbacks, an optimiser's states) is not read; one
    UserWarning names it. Of a large file the tensors are parts, so it must stay as it is while they live.

    Raises:
        OSError: no such file.
        ValueError: not a PyTorch file, a damaged one, one that asks for code, or one without named weights.
    """
    try:
        content, read = read_torch_file(file)
        holder, skipped = _weights_in(content)
        weights = {name: read(one) for name, one in holder.items() if isinstance(name, str) and isinstance(one, Stored)}
    except PickleError as error:
        raise ValueError(
            f"{file}: not a checkpoint of plain weights: {error}; give the .ckpt, .pth or .bin of a trained network"
        ) from error
    if not weights:
        found = ", ".join(skipped_kinds(content)[:3])
        raise ValueError(
            f"{file}: holds no named weights{f' but {found}' if found else ''}; give the file of a trained network"
        )
    if skipped:
        warnings.warn(f"{file}: only its weights are read; skipped: {', '.join(skipped)}", UserWarning, stacklevel=2)
    return weights


def _weights_in(content: Any) -> tuple[dict[Any, Any], list[str]]:
    """The dictionary that holds the weights, and what lies beside them, in words."""
    skipped: list[str] = []
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            skipped += _beside(content, name)
            content = content[name]
    holder = content if isinstance(content, dict) else {}
    return holder, skipped + [words for key, one in holder.items() if (words := _skipped(key, one, weights=True))]


def _beside(content: dict[Any, Any], taken: str) -> list[str]:
    return [words for key, one in content.items() if key != taken and (words := _skipped(key, one))]


def _skipped(key: Any, value: Any, *, weights: bool = False) -> str:
    """Words for what is not read; "" for a weight, and for numbers and texts, which nobody misses."""
    kinds = skipped_kinds([key, value])
    name = key if isinstance(key, str) else "an entry without a name"
    if kinds:
        more = f" and {len(kinds) - 3} more" if len(kinds) > 3 else ""
        return f"{name} ({', '.join(kinds[:3])}{more})"
    if isinstance(value, Stored):
        return "" if weights and isinstance(key, str) else name
    return name if isinstance(value, (dict, list, tuple)) and value and not weights else ""


def convert_higherhrnet(file: Path, out: Path) -> HigherHRNet:
    """A published HigherHRNet checkpoint (its own repository's names, or mmpose's) as a folder for
    `--estimator higherhrnet=FOLDER`.

    The size is read from the weights: the width of the finest branch decides between W32 and W48.

    Raises:
        ValueError: not a checkpoint, or of no published size; the message names keys that do not fit.
    """
    state = read_checkpoint(file)
    names = {published_name(key): key for key in state}
    first = state.get(names.get("transition1.0.0.weight", ""))
    if first is None or first.ndim != 4:
        raise ValueError(f"{file}: has no weight transition1.0.0.weight, so it is no HigherHRNet; give W32 or W48")
    known: dict[int, HigherHRNetConfig] = {one.width: one for key, one in CONFIGS.items() if key.startswith("w")}
    config = known.get(first.shape[0])
    if config is None:
        raise ValueError(f"{file}: a width of {first.shape[0]}; the published ones are {', '.join(map(str, known))}")
    network = load_published(HigherHRNet(config), state, str(file))
    network.save_pretrained(out)
    return network


# Inception's last layer: in the published file, behind the features, and not used.
CLASSES = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def convert_inception(file: Path, out: Path) -> Inception:
    """FID's Inception-v3 as pytorch-fid publishes it, as a folder for the features "inception".

    `fc.weight` and `fc.bias` are left out; any other key that the network does not have is refused. A file that fits
    but is not the published one, known by its SHA-256, is converted with a UserWarning: its distances are no FID.

    Raises:
        OSError: no such file.
        ValueError: not a checkpoint, or of another network; the message names keys that do not fit.
    """
    state = read_checkpoint(file)
    for key, shape in CLASSES.items():
        if key in state and state.pop(key).shape != shape:
            raise ValueError(
                f"{file}: {key} is not of the shape {shape}, so it is another Inception-v3 than FID's; give "
                f"pytorch-fid's {PUBLISHED_FILE}"
            )
    network = Inception(InceptionConfig(file_sha256(file)))
    check_fit(network, state, str(file), f"give pytorch-fid's {PUBLISHED_FILE}")
    network.load_state_dict(state, strict=False)
    if network.config.source_sha256 != PUBLISHED_SHA256:
        text = f"{file}: not the published {PUBLISHED_FILE} (another SHA-256); distances of its features are no FID"
        warnings.warn(text, UserWarning, stacklevel=2)
    network.save_pretrained(out)
    return network
