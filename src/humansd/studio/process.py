"""A process that owns the models of one device, so that answering clients does not slow down drawing.

Both would share one interpreter: each of the thousands of small steps of a drawing would wait until a request that is
being answered gives way.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from humansd.studio.settings import StudioSettings

if TYPE_CHECKING:  # seconds, in which the process starts
    from humansd.studio.drawing import ImageTask, OnStep

log = logging.getLogger(__name__)
_START_S = 600.0  # a large model from a slow disk


class DrawingProcess:
    """The other side of a pipe. To be used by one thread at a time."""

    def __init__(self, settings: StudioSettings, device: str, prepare: Callable[[], object] | None = None) -> None:
        """Starts the process; `about` waits until it has loaded its models.

        prepare: a function of a module, which the process calls before anything else.
        """
        self._settings, self._device, self._prepare = settings, device, prepare
        self._ended = False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(there, self._settings, self._device, self._prepare),
            daemon=True,
            name=f"studio-{self._device}",
        )
        self._process.start()
        there.close()
        self._loaded: list[Any] | None = None

    def about(self) -> list[Any]:
        """What its models say of themselves (`drawing.About`). ValueError as of `load_served`; RuntimeError."""
        if self._loaded is None:
            if not self._pipe.poll(_START_S):
                raise RuntimeError(f"the drawing process of {self._device} did not start in {_START_S:g} s")
            kind, value = self._receive()
            if kind == "refused":
                raise ValueError(value)
            if kind != "loaded":
                raise RuntimeError(value)
            self._loaded = value
        return self._loaded

    def draw(self, name: str, method: str, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        """As `drawing.Model.draw`. After the process died it is started again, and this is a RuntimeError."""
        self.about()
        self._send((name, method, list(tasks)))
        failed: BaseException | None = None
        while True:
            kind, value = self._receive()
            if kind == "step":
                try:
                    go = failed is None and on_step(value, self._previews)
                except BaseException as error:
                    failed, go = error, False
                self._send("go" if go else "stop")
                continue
            if failed is not None:
                raise failed
            if kind == "refused":
                raise ValueError(value)
            if kind == "failed":
                raise RuntimeError(value)
            return [Image.fromarray(pixels) for pixels in value]

    def _previews(self) -> list[Image.Image]:
        self._send("images")
        return [Image.fromarray(pixels) for pixels in self._receive()[1]]

    def end(self) -> None:
        """Ends it now; whoever waits in `about` or `draw` gets a RuntimeError or OSError. It is not started again."""
        self._ended = True
        self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)

    def _send(self, value: Any) -> None:
        try:
            self._pipe.send(value)
        except OSError:
            self._again()

    def _receive(self) -> tuple[str, Any]:
        try:
            received: tuple[str, Any] = self._pipe.recv()
            return received
        except (EOFError, OSError):
            self._again()
            raise  # never reached

    def _again(self) -> None:
        self._process.join(5)
        code, loaded = self._process.exitcode, self._loaded is not None
        if loaded and not self._ended:  # one that dies while it loads would die for ever
            log.error("the drawing process of %s ended with status %s; it is started again", self._device, code)
            self._start()
        raise RuntimeError(f"the drawing process ended (status {code})") from None


def _serve(pipe: Connection, settings: StudioSettings, device: str, prepare: Callable[[], object] | None) -> None:
    """What the process does until the other side is gone."""
    for one in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the studio ends this when it is time
        signal.signal(one, signal.SIG_IGN)
    if prepare is not None:
        prepare()
    from tqdm import tqdm

    # what else could be installed helps nobody who starts a server
    logging.getLogger("transformers.utils.import_utils").setLevel(logging.ERROR)
    tqdm.set_lock(threading.RLock())  # else one of the system, which is left behind when this process is ended
    try:
        from humansd.studio.served import every, load_served

        models = load_served(settings, device)
    except (ValueError, OSError) as error:
        pipe.send(("refused", str(error)))
        return
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        raise
    with contextlib.suppress(EOFError, OSError):  # the studio is gone
        pipe.send(("loaded", [model.about for model in every(models)]))
        while True:
            name, method, tasks = pipe.recv()
            pipe.send(_answer(pipe, functools.partial(models[name].by(method).draw, tasks)))


def _answer(pipe: Connection, draw: Callable[[OnStep], list[Image.Image]]) -> tuple[str, Any]:
    def on_step(step: int, images: Callable[[], list[Image.Image]]) -> bool:
        pipe.send(("step", step))
        while True:
            wish = pipe.recv()
            if wish != "images":
                return bool(wish == "go")
            pipe.send(("images", [np.asarray(one) for one in images()]))

    begun = time.monotonic()
    try:
        return "done", [np.asarray(one) for one in draw(on_step)]
    except (EOFError, OSError):
        raise
    except ValueError as error:
        return "refused", str(error)
    except Exception as error:
        log.exception("drawing failed after %.1f s", time.monotonic() - begun)
        return "failed", f"drawing failed ({type(error).__name__})"
