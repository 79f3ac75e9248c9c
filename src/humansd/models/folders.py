"""A network as a folder: `config.json`, its dataclass, and `model.safetensors`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from humansd.core.files import write_whole

Network = TypeVar("Network", bound=nn.Module)


def save_network(network: nn.Module, config: Any, folder: Path) -> None:
    """Writes the dataclass `config` and the weights of `network`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_whole(folder / "config.json", lambda file: file.write(text.encode()))
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
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
        state = {key: tensor.float() for key, tensor in load_file(folder / "model.safetensors").items()}
        check_fit(network, state, str(folder))
        network.load_state_dict(state, strict=False)
    except (TypeError, AttributeError, json.JSONDecodeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{folder}: not a folder of a {config.__name__.removesuffix('Config')} ({reason}); name the export of its "
            "own training, or train it again"
        ) from error
    return network.eval()


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
