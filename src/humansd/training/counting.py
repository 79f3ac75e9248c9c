"""Counting the memory of what networks compute, on the meta device: what autograd keeps, and the most that is alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from humansd.models.precision import use_fast_attention


@dataclass(frozen=True)
class Shapes:
    """A run's networks on the meta device.

    name: what they are. learns: the module that is trained. frozen: the others that are in memory, by name. forward:
    what is computed with gradients of so many samples. unet: the one in `learns`, if there is one. guiding: what the
    frozen networks compute of so many samples in every step, between the forward and the backward pass. caching: what
    they compute before the first step.
    """

    name: str
    learns: nn.Module
    frozen: dict[str, nn.Module]
    forward: Callable[[int], Any]
    unet: UNet2DConditionModel | None = None
    guiding: Callable[[int], Any] | None = None
    caching: Callable[[], Any] | None = None


def activation_bytes(shapes: Shapes, samples: int, device: str, half: bool, *, checkpointing: bool) -> dict[str, int]:
    """What one forward pass keeps for the backward pass, with 16-bit copies of the weights where `half`; and what the
    backward pass works with: of the largest of these tensors the gradient, and that of what it was made from.

    On a GPU every operation is computed in the precision that autocast gives it there, which keeps the inputs of norms
    in 32 bits; on a CPU all of it takes half as much.

    checkpointing: of the UNet; then the block that is largest when it is computed again counts too.
    """
    known = {_key(weight) for weight in shapes.learns.parameters()}
    kept, largest = _Kept(known), _Kept(known)

    def block(module: Callable[..., Any], *args: Any) -> Any:
        nonlocal largest
        for one in args:
            if isinstance(one, Tensor):
                kept.keep(one)
        inner = _Kept(known)
        with inner.hooks():
            out = module(*args)
        largest = max(largest, inner, key=_Kept.bytes)
        return out

    shapes.learns.train()
    unet = shapes.unet
    if unet is not None:
        use_fast_attention(unet, device)
        unet.disable_gradient_checkpointing()
        if checkpointing:
            unet.enable_gradient_checkpointing(block)
    gpu = device == "cuda"
    with kept.hooks(), _Device(half and gpu, known):
        result = shapes.forward(samples)
    del result
    sizes = {"activations": kept.bytes() + largest.bytes(), "working": 2 * max(kept.largest(), largest.largest())}
    if half and not gpu:
        sizes = {name: size // 2 for name, size in sizes.items()}
    if half:
        sizes["activations"] += sum(2 * p.numel() for p in shapes.learns.parameters())
    return sizes


@torch.no_grad()
def frozen_bytes(compute: Callable[[], Any], device: str, half: bool) -> int:
    """The most that tensors take at one time while `compute` runs without gradients."""
    peak = _Peak()
    with _Device(half, set()) if device == "cuda" else nullcontext(), peak:
        compute()
    return peak.most // 2 if half and device == "cpu" else peak.most


class _Kept:
    """The tensors that autograd keeps, each once, without the weights."""

    def __init__(self, known: set[int]) -> None:
        self._known = known
        self._storages: dict[int, torch.UntypedStorage] = {}  # held, so that no other takes its number

    def keep(self, tensor: Tensor) -> Tensor:
        if _key(tensor) not in self._known:
            self._storages[_key(tensor)] = tensor.untyped_storage()
        return tensor

    def hooks(self) -> AbstractContextManager[Any]:
        return saved_tensors_hooks(self.keep, lambda tensor: tensor)

    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())

    def largest(self) -> int:
        return max((storage.nbytes() for storage in self._storages.values()), default=0)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # a tensor of the meta device has no address


class _Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive; those of before are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and (key := _key(one)) not in self._alive:
                storage = one.untyped_storage()
                self._alive.add(key)
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._gone, key, storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


# What autocast computes in 16 and in 32 bits on a GPU, of the operations of these networks.
_HALF = {"linear", "conv2d", "conv_transpose2d", "matmul", "__matmul__", "bmm", "baddbmm"}
_HALF |= {"scaled_dot_product_attention"}
_FULL = {"group_norm", "layer_norm", "softmax"}


class _Device(TorchFunctionMode):
    """The meta device as a real one computes: with `half` in the precisions of a GPU's autocast; and fused attention,
    which the meta device writes out, keeps its inputs and outputs and no scores."""

    def __init__(self, half: bool, known: set[int]) -> None:
        """known: keys of tensors that are counted elsewhere; the copies of weights in 16 bits join them."""
        super().__init__()
        self.half, self._known = half, known
        self._copies: dict[int, Tensor] = {}  # of weights that learn, each made once

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self.half and name in _HALF | _FULL:
            dtype = torch.bfloat16 if name in _HALF else torch.float32
            args = [self._cast(one, dtype) for one in args]
            kwargs = {key: self._cast(one, dtype) for key, one in kwargs.items()}
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return func(*args, **kwargs)

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        key = _key(value)
        if key not in self._copies:
            self._copies[key] = value.to(dtype)
            self._known.add(_key(self._copies[key]))
        return self._copies[key]
