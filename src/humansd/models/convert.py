"""Published checkpoints, which are pickled, to folders of this package: the one place that opens them.

`torch.load(weights_only=True)` builds tensors and plain containers and nothing else, so a file cannot run code.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humansd.models.folders import check_fit
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, HigherHRNetConfig, load_published, published_name
from humansd.models.inception import PUBLISHED_FILE, PUBLISHED_SHA256, Inception, InceptionConfig

WRAPPERS = ("state_dict", "model", "model_state_dict")  # where checkpoints of various trainers keep their weights


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The weights of a PyTorch checkpoint, by name.

    Raises:
        OSError: no such file.
        ValueError: not a PyTorch file, one that holds more than tensors, or one without named weights.
    """
    try:
        with warnings.catch_warnings():  # PyTorch's remark on pickle protocols; the error below says enough
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{file}: not a checkpoint of plain weights ({reason}); give a .pth or .bin file that holds tensors alone"
        ) from error
    for name in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    weights = {k: v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, dict) else {}
    if not weights:
        raise ValueError(f"{file}: holds no named weights; give the file of a trained network")
    return weights


def convert_higherhrnet(file: Path, out: Path) -> HigherHRNet:
    """A published HigherHRNet checkpoint (its own repository's names, or mmpose's) as a folder for `--source`.

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
    with file.open("rb") as stream:
        network = Inception(InceptionConfig(hashlib.file_digest(stream, "sha256").hexdigest()))
    check_fit(network, state, str(file), f"give pytorch-fid's {PUBLISHED_FILE}")
    network.load_state_dict(state, strict=False)
    if network.config.source_sha256 != PUBLISHED_SHA256:
        text = f"{file}: not the published {PUBLISHED_FILE} (another SHA-256); distances of its features are no FID"
        warnings.warn(text, UserWarning, stacklevel=2)
    network.save_pretrained(out)
    return network
