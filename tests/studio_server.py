"""A studio around a real model in miniature, in this process or as a server of its own."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from humansd.pipelines.humansd import HumanSDPipeline
from humansd.studio.app import create_app
from humansd.studio.settings import Limits, StudioSettings
from tiny_pipeline import tiny_components

STEPS = 3


def tiny_model(folder: Path) -> str:
    """The folder of a saved model: 16 px, three steps."""
    HumanSDPipeline(**tiny_components(), num_inference_steps=STEPS).save_pretrained(folder, safe_serialization=True)
    return str(folder)


def settings_of(model: str, **changes: Any) -> StudioSettings:
    """Of a studio with that model, called "tiny", and the names that test clients use."""
    plain = StudioSettings(models=(("tiny", model),), devices=("cpu",), allowed_hosts=("testserver",), shutdown_s=5.0)
    return replace(plain, **changes)


def limits(**changes: Any) -> Limits:
    """The usual ones with these changed."""
    return replace(Limits(), **changes)


@contextlib.contextmanager
def client_of(settings: StudioSettings, **options: Any) -> Iterator[TestClient]:
    """A client of a running studio."""
    with TestClient(create_app(settings), raise_server_exceptions=False, **options) as client:
        yield client


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of the application on a real port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def opened(text: str) -> Image.Image:
    """The image in base64."""
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def pixels(text: str) -> np.ndarray:
    """The same as uint8 (H, W, 3)."""
    return np.array(opened(text).convert("RGB"))


def encoded(image: np.ndarray | Image.Image) -> str:
    """PNG in base64."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def finished(client: TestClient, id: str, seconds: float = 120) -> dict[str, Any]:
    """The status of a job once it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = client.get(f"/v1/jobs/{id}").json()
        if status["state"] in ("done", "failed", "cancelled"):
            return status
        time.sleep(0.02)
    raise AssertionError(f"job {id} has not ended: {status}")
