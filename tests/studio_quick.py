"""A studio whose models draw a plain color at once: for what the server does around a drawing, without any network."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from humansd.studio.app import create_app
from humansd.studio.drawing import About, ImageTask, OnStep
from humansd.studio.engine import Engine
from humansd.studio.remote import remote_models
from humansd.studio.settings import StudioSettings

TINY = About("tiny", "humansd", True, (16, 16), 2, False, 3, 4.0, 1.5)


class QuickEngine(Engine):
    """Draws with no network; `drawn` are the tasks that it was given."""

    def __init__(self, settings: StudioSettings, about: Sequence[About] = (TINY,)) -> None:
        super().__init__(settings)
        self.drawn: list[ImageTask] = []
        self.hold: Callable[[], object] = lambda: None  # before each step
        self._about = about

    def load(self) -> None:
        """No network."""
        self.workers = [remote_models(self._about, self._quickly)]

    def _quickly(self, name: str, method: str, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        self.drawn += tasks
        made = [Image.new("RGB", task.recipe.size, (task.seed % 256, 90, 160)) for task in tasks]
        for step in range(tasks[0].recipe.steps_to_draw):
            self.hold()
            if not on_step(step + 1, lambda: made):
                break
        return made


def quick_settings(**changes: Any) -> StudioSettings:
    """Of a studio called by the names that test clients use."""
    plain: dict[str, Any] = {"models": (("tiny", "none"),), "allowed_hosts": ("testserver",), "shutdown_s": 5.0}
    return StudioSettings(**plain | changes)


@contextlib.contextmanager
def quick_client(*about: About, **changes: Any) -> Iterator[TestClient]:
    """A client of a running one; its engine is `client.app.state.engine`."""
    engine = QuickEngine(quick_settings(**changes), about or (TINY,))
    engine.load()
    with TestClient(create_app(engine.settings, engine), raise_server_exceptions=False) as client:
        yield client


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def quick_server(*about: About, port: int = 0, **changes: Any) -> Iterator[tuple[str, QuickEngine]]:
    """(address, engine) of one on a real port."""
    engine, port = QuickEngine(quick_settings(**changes), about or (TINY,)), port or free_port()
    engine.load()
    server = uvicorn.Server(uvicorn.Config(create_app(engine.settings, engine), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}", engine
    finally:
        engine.stopping()
        engine.leave()
        server.should_exit = True
        thread.join(30)


def encoded(image: np.ndarray | Image.Image) -> str:
    """PNG in base64."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
