"""Processes of their own for tests that kill them or need several, forked from one that has imported what is heavy.

Starting Python with PyTorch anew takes seconds each time; a fork of a process that holds both takes none.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["humansd.training.loop", "humansd.training.memory"])


def start(
    function: Callable[..., Any],
    *args: Any,
    errors: Path | str = os.devnull,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """The running process of `function(*args)`. errors: where its stderr goes. environment: added to this one's."""
    process = CONTEXT.Process(target=_run, args=(function, args, str(errors), dict(environment or {})))
    process.start()
    return process


def result(function: Callable[..., Any], *args: Any) -> Any:
    """What `function(*args)` returns in a process of its own.

    Raises:
        RuntimeError: it failed; with what the process said.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_send, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process ended with {process.exitcode}; its stderr says why") from None
    finally:
        process.join()


def _run(function: Callable[..., Any], args: tuple[Any, ...], errors: str, environment: dict[str, str]) -> None:
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(environment)
    faulthandler.dump_traceback_later(250)  # where it hangs, should it
    function(*args)


def _send(sender: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    sender.send(function(*args))
