"""Requests damaged at random against a studio of its own process: `humansd benchmark fuzz studio`.

A mutant passes if it is answered within `PATIENCE_S` with a status below 500 (503 while the server has no room is
well), and the server opens no file but its own: of the interpreter, of the package, of its state and of temporary
folders that it made.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import humansd
from humansd.benchmarks.mutation import as_json, damaged_bytes, damaged_value
from humansd.benchmarks.studio_process import StudioProcess
from humansd.pose.examples import example_poses
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.render import OPENPOSE_STYLE, draw_people

PATIENCE_S = 120.0  # of waiting, however busy the machine is
_CLIENTS = 4
_SHOWN = 5
_PATHS = ("/etc/passwd", "file:///etc/passwd", "../../../etc/passwd", "http://127.0.0.1:9/x.png", "C:\\x", "~/x")
_BOUNDARY = "humansd-boundary"


@dataclass(frozen=True)
class Request:
    """A request that is attacked. value: its JSON; body: bytes of another kind."""

    path: str
    value: Any = None
    body: bytes = b""
    kind: str = "application/json"


def benchmark_fuzz_studio(count: int, seed: int, keep: Path | None = None, *, model: str = "pocket") -> str:
    """Sends `count` mutants; how many were answered how, in words.

    keep: a folder for the bodies that fail.

    Raises:
        ValueError: fewer than one mutant, or a failure; the message has the first ones.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be 1 or more")
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="humansd-fuzz-") as name:
        folder = Path(name)
        opened = folder / "opened.txt"
        studio = StudioProcess(model, folder / "server.log", _options(folder), watched=opened)
        try:
            requests = _requests()
            mine = opened.stat().st_size  # what the start opened
            lock = threading.Lock()

            def one(number: int) -> None:
                request, body = _mutant(random.Random(f"{seed} {number}"), requests)
                status, problem = _sent(studio, request, body)
                with lock:
                    statuses[status] += 1
                    if problem:
                        failures.append(f"{number} {request.path}: {problem}")
                        _kept(keep, number, request, body)

            with ThreadPoolExecutor(_CLIENTS) as pool:
                list(pool.map(one, range(count)))
            alive = studio.process.poll() is None and studio.ask("GET", "/readyz")[0] == 200
            log = (folder / "server.log").read_text("utf-8", "replace")
        finally:
            studio.stop()
        foreign = _foreign(opened, mine, folder)
    if not alive:
        failures.append(f"the server is gone; it said: {log[-500:]}")
    failures = [f"a file was touched: {path}" for path in foreign] + failures
    told = f"{count} mutants: " + ", ".join(f"{n} answered {status}" for status, n in sorted(statuses.items()))
    told += f"; {len(foreign)} foreign files touched"
    if failures:
        more = f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise ValueError(f"{told}\n{len(failures)} failures: {'; '.join(failures[:_SHOWN])}{more}")
    return told


def _options(folder: Path) -> list[str]:
    return ["--state", str(folder / "state"), "--queue", "64", "--queue-per-key", "64"]


def _sent(studio: StudioProcess, request: Request, body: bytes) -> tuple[int, str]:
    """The status, and what is wrong with the answer, "" where nothing is."""
    try:
        status, answer, _ = studio.ask("POST", request.path, body, kind=request.kind, timeout_s=PATIENCE_S)
    except TimeoutError:
        return 0, f"no answer in {PATIENCE_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        return 0, f"the connection broke ({type(error).__name__})"
    return status, answer[:200].decode("utf-8", "replace") if status >= 500 and status != 503 else ""


def _kept(keep: Path | None, number: int, request: Request, body: bytes) -> None:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{number}{request.path.replace('/', '_')}").write_bytes(body)


def _mutant(rng: random.Random, requests: list[Request]) -> tuple[Request, bytes]:
    request = rng.choice(requests)
    if request.value is None:
        return request, damaged_bytes(rng, request.body)
    kind = rng.random()
    if kind < 0.3:
        return request, damaged_bytes(rng, json.dumps(request.value).encode())
    value = damaged_value(rng, request.value)
    if kind < 0.45 and isinstance(value, dict) and value:  # a text that looks like a place
        value[rng.choice(list(value))] = rng.choice(_PATHS)
    elif kind < 0.6:
        value = _damaged_image(rng, value)
    return request, as_json(rng, value)


def _damaged_image(rng: random.Random, value: Any) -> Any:
    """With an image whose bytes are damaged, where it has one."""
    named = [
        key for key in ("image", "mask", "pose_image") if isinstance(value, dict) and isinstance(value.get(key), str)
    ]
    if named:
        try:
            data = base64.b64decode(value[named[0]])
        except ValueError:
            return value
        value[named[0]] = base64.b64encode(damaged_bytes(rng, data)).decode()
    return value


def _requests() -> list[Request]:
    people = next(iter(read_poses(example_poses()).values()))
    pose, image, drawing = people.to_json(), _png(np.full((64, 64, 3), 90, np.uint8)), _drawing(people)
    jpeg = _encoded(np.full((64, 48, 3), 90, np.uint8), "JPEG")
    text = base64.b64encode(image).decode()
    mask = base64.b64encode(_png(np.full((64, 64, 3), 255, np.uint8))).decode()
    plain = {"prompt": "a man", "pose": pose, "n": 1, "num_inference_steps": 1, "seed": 1, "width": 64, "height": 64}
    begun = {**plain, "image": text, "mask": mask, "strength": 1.0}
    unit = {"enabled": True, "module": "none", "image": base64.b64encode(drawing).decode(), "weight": 1.0}
    scripts = {"controlnet": {"args": [unit]}}
    webui = {"prompt": "a man", "steps": 1, "width": 64, "height": 64, "seed": 1, "alwayson_scripts": scripts}
    openai = {"prompt": "a man", "size": "64x64", "n": 1, "num_inference_steps": 1, "pose": pose}
    return [
        Request("/v1/generate", plain),
        Request("/v1/generate", begun),
        Request("/v1/jobs", {**plain, "preview": True}),
        Request("/v1/images/generations", openai),
        Request("/v1/images/edits", body=_form(image), kind=f"multipart/form-data; boundary={_BOUNDARY}"),
        Request("/sdapi/v1/txt2img", webui),
        Request("/sdapi/v1/img2img", {**webui, "init_images": [text], "denoising_strength": 1.0}),
        Request("/sdapi/v1/options", {"sd_model_checkpoint": "pocket"}),
        Request("/controlnet/detect", {"controlnet_module": "none", "controlnet_input_images": [unit["image"]]}),
        Request("/v1/poses/read", pose),
        Request("/v1/poses/detect", body=image, kind="application/octet-stream"),
        Request("/v1/poses/detect", body=jpeg, kind="image/jpeg"),
        Request("/v1/poses/detect", body=drawing, kind="image/png"),
        Request("/v1/poses/export", {"poses": [{"name": "a", "pose": pose}], "format": "openpose"}),
        Request("/v1/poses/compare", {"pose": pose, "image": text}),
    ]


def _png(pixels: np.ndarray) -> bytes:
    return _encoded(pixels, "PNG")


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def _drawing(people: People) -> bytes:
    return _png(draw_people(people.fit(128, 128), OPENPOSE_STYLE))


def _form(image: bytes) -> bytes:
    parts = [b'name="prompt"\r\n\r\na man', b'name="num_inference_steps"\r\n\r\n1', b'name="seed"\r\n\r\n1']
    parts.append(b'name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + image)
    edge = f"--{_BOUNDARY}".encode()
    return (
        b"".join(edge + b"\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + edge + b"--\r\n"
    )


def _foreign(opened: Path, start: int, folder: Path) -> list[str]:
    """Files that were touched after the start and are none of the server's own."""
    known = _own_places(folder)
    found = dict.fromkeys(opened.read_bytes()[start:].decode("utf-8", "surrogateescape").splitlines())
    return [path for path in found if not known(path)]


def _own_places(folder: Path) -> Callable[[str], bool]:
    places = [*map(str, _interpreter()), str(Path(humansd.__file__).parent), str(folder), "/proc/self", "/dev/null"]
    places += ["/dev/urandom", "/dev/shm", "/sys/devices", "/sys/fs/cgroup", "/etc/localtime", "/etc/mime.types"]
    temporary = tempfile.gettempdir() + "/humansd-"

    def known(path: str) -> bool:
        """Those that begin with one of the places; what the studio makes itself begins with humansd-."""
        whole = str(Path(path).absolute())
        if ".." in Path(path).parts:
            return False
        return whole.startswith(temporary) or any(whole == one or whole.startswith(f"{one}/") for one in places)

    return known


def _interpreter() -> Iterator[Path]:
    for place in {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}:
        yield Path(place).absolute()
