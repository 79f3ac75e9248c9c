"""A network as a folder: `config.json`, its dataclass, and `model.safetensors`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from humansd.core.files import write_whole

Network = TypeVar("Network", bound=nn.Module)

SCALE = ".int8_scale"  # behind the name of a weight that is stored as int8
_LEAST_INT8 = 2**14  # values of a tensor: smaller ones hardly take room, and lose most in int8


def save_network(network: nn.Module, config: Any, folder: Path, *, int8: bool = False) -> None:
    """Writes the dataclass `config` and the weights of `network`; with `int8` as `compact` makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_whole(folder / "config.json", lambda file: file.write(text.encode()))
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    state = compact(state) if int8 else state
    data = save(state, metadata={"format": "pt"})  # safetensors' own writer hides that a disk is full
    write_whole(folder / "model.safetensors", lambda file: file.write(data))


def load_network(make: Callable[[Any], Network], config: type[Any], folder: Path) -> Network:
    """`make(config)` with the weights of `folder`, in fp32 and for use, not for training.

    Raises:
        OSError: a file of the folder is missing.
        ValueError: the config or the weights are damaged, or of another kind of network; the message names `folder`.
    """
    try:
        values = json.loads((folder / "config.json").read_text())
        network = make(config(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}))
        state = expanded(load_file(folder / "model.safetensors"), str(folder))
        check_fit(network, state, str(folder))
        network.load_state_dict(state, strict=False)
    except (TypeError, AttributeError, json.JSONDecodeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{folder}: not a folder of a {config.__name__.removesuffix('Config')} ({reason}); name the export of its "
            "own training, or the estimator that it is of with --estimator"
        ) from error
    return network.eval()


def compact(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floats in about a quarter of their bytes: large kernels and matrices as int8 with one float32 scale for each
    output channel (first axis), named NAME + `SCALE`; the others as float16. Other types stay.

    An int8 value is off by at most half a 127th of the largest in its channel.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            stored[name] = tensor
        elif tensor.ndim < 2 or tensor.numel() < _LEAST_INT8:
            stored[name] = tensor.half()
        else:
            largest = tensor.float().flatten(1).abs().amax(1)
            scale = torch.where(largest > 0, largest / 127, 1.0)
            by_channel = scale.view(-1, *[1] * (tensor.ndim - 1))
            stored[name] = (tensor.float() / by_channel).round().clamp(-127, 127).to(torch.int8)
            stored[name + SCALE] = scale
    return stored


def expanded(stored: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The float32 state that `compact` was given, or any other state in float32.

    Raises:
        ValueError: a scale that does not fit its weight, or int8 without a scale; the message names `source`.
    """
    state = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            continue
        value, scale = tensor.float(), stored.get(name + SCALE)
        if (tensor.dtype == torch.int8) != (scale is not None):
            raise ValueError(
                f"{source}: {name} is {tensor.dtype} with{'out' if scale is None else ''} a scale; copy it again"
            )
        if scale is not None:
            if tensor.ndim < 1 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{source}: {name} has a scale of shape {tuple(scale.shape)}; copy it again")
            value = value * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        state[name] = value
    lost = [name for name in stored if name.endswith(SCALE) and name.removesuffix(SCALE) not in stored]
    if lost:
        raise ValueError(f"{source}: {lost[0]} is the scale of no weight; copy it again")
    return state


def check_fit(network: nn.Module, state: dict[str, Tensor], source: str, remedy: str = "choose another size") -> None:
    """Whether `state` has the weights of `network`, each of the right shape and none too many.

    Raises:
        ValueError: it has not; the message names `source`, the first keys and the remedy.
    """
    own = network.state_dict()
    # Counts of training batches: of no use, and absent from older files.
    own_keys, given = ({key for key in keys if not key.endswith("num_batches_tracked")} for keys in (own, state))
    faults = {
        "missing": own_keys - given,
        "left over": given - own_keys,
        "of another shape": {key for key in own_keys & given if own[key].shape != state[key].shape},
    }
    told = [f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])})" for what, keys in faults.items() if keys]
    if told:
        kind = type(network).__name__
        raise ValueError(f"{source}: not the weights of this {kind}: {'; '.join(told)}; {remedy}")
