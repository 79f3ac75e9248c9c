"""What belongs to one call while several threads draw with the same pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from humansd.pipelines.call import Call

_CALLS: ContextVar[Mapping[int, Call]] = ContextVar("calls", default=MappingProxyType({}))
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_MAKING = threading.Lock()


def lock_of(network: nn.Module) -> threading.RLock:
    """One lock for each network, for what changes it while it runs; pipelines that share it share the lock."""
    with _MAKING:
        return _LOCKS.setdefault(network, threading.RLock())


class RunningMixin:
    """The attributes that diffusers' callbacks read and set on a pipeline, kept for each call.

    Inside a call, and so in its callbacks, they are that call's own. Set from outside, as a button that cancels does,
    `_interrupt` is meant for every call that runs.
    """

    unet: Any
    guidance: Any
    default_steps: Any
    get_list_adapters: Callable[[], dict[str, Any]]
    _running: list[Call]

    @property
    def _interrupt(self) -> bool:
        call = self._own_call()
        return call is not None and call.interrupted

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        call = self._own_call()
        for one in list(self._running) if call is None else [call]:
            one.interrupted = bool(value)

    @property
    def _guidance_scale(self) -> float:
        call = self._own_call()
        return self.guidance.text if call is None else call.steering.text

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        call = self._own_call()
        if call is not None:
            call.steering = replace(call.steering, text=value)

    @property
    def num_timesteps(self) -> int:
        """Of the call that runs; diffusers' callbacks ask for it."""
        call = self._own_call()
        return self.default_steps if call is None else len(call.timesteps)

    def _own_call(self) -> Call | None:
        return _CALLS.get().get(id(self))

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Inside, `call` is the one that this thread runs."""
        token = _CALLS.set({**_CALLS.get(), id(self): call})
        self._running.append(call)
        try:
            yield
        finally:
            self._running.remove(call)
            _CALLS.reset(token)

    def alone(self) -> AbstractContextManager[Any]:
        """Whatever must not run twice at once: a scale of LoRAs is set in the networks for as long as they run."""
        return lock_of(self.unet) if self.get_list_adapters() else nullcontext()

    def alone_where_offloaded(self) -> AbstractContextManager[Any]:
        """A whole call: diffusers' CPU offload moves the networks to the device and away again."""
        offloaded = bool(getattr(self, "_all_hooks", None)) or hasattr(self.unet, "_hf_hook")
        return lock_of(self.unet) if offloaded else nullcontext()
