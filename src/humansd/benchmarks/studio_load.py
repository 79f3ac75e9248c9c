"""A studio under load: many clients against a server of its own process, with a kill in the middle where asked for.

Speaks HTTP only, as any client does.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humansd.inference.demo import example_poses
from humansd.inference.pretrained import load_pipeline
from humansd.pose.formats import read_poses

BATCHES = (1, 2, 4, 8)
_START_S = 180


@dataclass
class Tally:
    """What the clients saw. accepted, fetched: ids of jobs. wrong: answers that belong to another job."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    fetched: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    no_retry_after: int = 0
    broken: int = 0
    memory_mb: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def benchmark_studio(
    out: Path, *, model: str = "pocket", clients: int = 200, seconds: float = 120, steps: int = 4, kills: int = 0
) -> str:
    """Runs the load; returns what happened, in words.

    Args:
        out: folder of the server's state and log. steps: denoising steps of each image. kills: SIGKILLs of the server
            in that time; each is followed by a start with the same state.

    Raises:
        ValueError: a job lost or doubled, an answer of another job, an error of the server, or a 429 without
            Retry-After.
    """
    out.mkdir(parents=True, exist_ok=True)
    alone = {} if kills else {size: _alone(model, size, steps) for size in BATCHES}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "humansd.cli", "studio", "--model", model, "--port", str(port)]
    command += ["--state", str(out / "state"), "--queue-per-key", "256"]
    tally, server = Tally(), _Server(command, port, out / "server.log")
    try:
        took = _run(server, port, tally, clients, seconds, steps, kills)
        metrics = server.get("/metrics")
    finally:
        server.stop()
    return _told(tally, took, metrics, alone, kills)


def _run(server: _Server, port: int, tally: Tally, clients: int, seconds: float, steps: int, kills: int) -> float:
    """All clients to their end; the seconds that took."""
    begun = time.monotonic()
    end = begun + seconds
    threads = [
        threading.Thread(target=_client, args=(port, number, end, end + 600, steps, tally), daemon=True)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    pause = random.Random(0)
    for _ in range(kills):
        time.sleep(seconds / (kills + 1) * pause.uniform(0.6, 1.0))
        server.kill()
        server.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        tally.memory_mb.append(server.memory_mb())
    return time.monotonic() - begun


class _Server:
    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.command, self.port, self.log = command, port, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.get("/readyz")
                return
            if self.process.poll() is not None:
                raise ValueError(f"the studio ended at once; see {self.log}")
            time.sleep(0.1)
        raise ValueError(f"the studio did not start in {_START_S} s; see {self.log}")

    def get(self, path: str) -> str:
        return _ask(self.port, "GET", path)[1].decode()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def memory_mb(self) -> float:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) / 1024
        return 0.0


def _ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json"} if sent else {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _client(port: int, number: int, end: float, last: float, steps: int, tally: Tally) -> None:
    """Sends jobs until `end`, one at a time, and fetches what was accepted until `last`."""
    count, pose = 0, next(iter(read_poses(example_poses()).values())).to_json()
    while time.monotonic() < end:
        seed, count = number * 10_000 + count, count + 1
        ask = {"prompt": f"photo, person {seed}", "pose": pose, "seed": seed, "num_inference_steps": steps}
        answer = _tried(port, "POST", "/v1/jobs", ask, tally)
        if answer is None:
            time.sleep(0.5)
        elif answer[0] == 202:
            id = json.loads(answer[1])["id"]
            with tally.lock:
                tally.accepted.add(id)
            _fetch(port, id, seed, last, tally)
        elif answer[0] == 429:
            wait = answer[2].get("retry-after")
            with tally.lock:
                tally.no_retry_after += wait is None
            time.sleep(min(float(wait or 1), max(0.0, end - time.monotonic())))


def _tried(port: int, method: str, path: str, body: Any, tally: Tally) -> tuple[int, bytes, dict[str, str]] | None:
    try:
        answer = _ask(port, method, path, body)
    except (OSError, http.client.HTTPException):  # the server was killed meanwhile
        with tally.lock:
            tally.broken += 1
        return None
    with tally.lock:
        tally.statuses[answer[0]] += 1
    return answer


def _fetch(port: int, id: str, seed: int, last: float, tally: Tally) -> None:
    while time.monotonic() < last:
        answer = _tried(port, "GET", f"/v1/jobs/{id}/result", None, tally)
        if answer is not None and answer[0] == 200:
            image = json.loads(answer[1])["data"][0]
            right = image["info"]["seed"] == seed and base64.b64decode(image["b64_json"])[:4] == b"\x89PNG"
            with tally.lock:
                tally.fetched[id] += 1
                tally.wrong += not right
            return
        if answer is not None and answer[0] != 409:
            return
        time.sleep(1.0)


def _alone(model: str, size: int, steps: int) -> float:
    """Images a second of the pipeline alone, in batches of `size`."""
    pipeline = _loaded(model)
    pose = next(iter(read_poses(example_poses()).values()))
    rates = []
    for round in range(3):
        prompts = [f"photo, person {i}" for i in range(size)]
        begun = time.monotonic()
        pipeline(prompts, pose, num_inference_steps=steps, seed=0)
        if round:  # the first one warms up
            rates.append(size / (time.monotonic() - begun))
    return max(rates)


_kept: dict[str, Any] = {}


def _loaded(model: str) -> Any:
    if model not in _kept:
        _kept[model] = load_pipeline(model)
        _kept[model].set_progress_bar_config(disable=True)
    return _kept[model]


def _samples(metrics: str, name: str) -> Iterator[float]:
    for line in metrics.splitlines():
        if line.startswith(name):
            yield float(line.split()[-1])


def _told(tally: Tally, took: float, metrics: str, alone: dict[int, float], kills: int) -> str:
    lost = tally.accepted - set(tally.fetched)
    doubled = [id for id, count in tally.fetched.items() if count > 1]
    server_errors = {status: n for status, n in tally.statuses.items() if status >= 500}
    images, batches = sum(_samples(metrics, "humansd_images_total")), sum(_samples(metrics, "humansd_batch_size_count"))
    busy = sum(_samples(metrics, "humansd_batch_seconds_sum"))
    lines = [
        f"{len(tally.accepted)} jobs accepted, {len(tally.fetched)} fetched, {len(lost)} lost, {len(doubled)} doubled, "
        f"{tally.wrong} wrong; {kills} kills, {tally.broken} broken connections, {took:.0f} s",
        f"answers: {dict(sorted(tally.statuses.items()))}",
    ]
    memory = [mb for mb in tally.memory_mb if mb]
    if memory:
        third = max(1, len(memory) // 3)
        first, final = sum(memory[:third]) / third, sum(memory[-third:]) / third
        lines.append(f"memory: {first:.0f} MB in the first third, {final:.0f} MB in the last")
    if alone and batches:
        lines.append("pipeline alone, images/s by batch: " + ", ".join(f"{n}: {rate:.2f}" for n, rate in alone.items()))
        lines.append(f"studio: {images / busy:.2f} images/s while drawing, {images / batches:.1f} images a batch")
    if lost or doubled or tally.wrong or server_errors or tally.no_retry_after:
        raise ValueError("; ".join(lines))
    return "\n".join(lines)
