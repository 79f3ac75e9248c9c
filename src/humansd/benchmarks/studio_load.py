"""A studio under load: many clients against a server of its own process, with a kill in the middle where asked for.

Speaks HTTP only, as any client does.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humansd.benchmarks.studio_process import StudioProcess
from humansd.pose.examples import example_poses
from humansd.pose.formats import read_poses

_FLAT = 1.05  # times the memory of before
_LONG = 60  # s, from which memory can be told to grow


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
    out: Path,
    *,
    model: str = "pocket",
    clients: int = 200,
    seconds: float = 120,
    steps: int = 4,
    kills: int = 0,
    queue: int = 256,
) -> str:
    """Runs the load; returns what happened, in words.

    Args:
        out: folder of the server's state and log. steps: denoising steps of each image. queue: images that may
            wait; with fewer than clients some are told 429. kills: SIGKILLs of the server
            in that time; each is followed by a start with the same state.

    Raises:
        ValueError: a job lost or doubled, an answer of another job, an error of the server, a 429 without
            Retry-After, or memory that grows.
    """
    out.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    server = StudioProcess(
        model,
        out / "server.log",
        ["--state", str(out / "state"), "--queue-per-key", str(queue), "--queue", str(queue)],
    )
    try:
        took = _run(server, tally, clients, seconds, steps, kills)
        counters = server.counters()
        cpu_s = server.cpu_s()
    finally:
        server.stop()
    return _told(tally, took, counters, cpu_s, kills)


def _run(server: StudioProcess, tally: Tally, clients: int, seconds: float, steps: int, kills: int) -> float:
    """All clients to their end; the seconds that took."""
    begun = time.monotonic()
    end = begun + seconds
    threads = [
        threading.Thread(target=_client, args=(server, number, end, end + 600, steps, tally), daemon=True)
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


def _client(server: StudioProcess, number: int, end: float, last: float, steps: int, tally: Tally) -> None:
    """Sends jobs until `end`, one at a time, and fetches what was accepted until `last`."""
    count, pose = 0, next(iter(read_poses(example_poses()).values())).to_json()
    while time.monotonic() < end:
        seed, count = number * 10_000 + count, count + 1
        ask = {"prompt": f"photo, person {seed}", "pose": pose, "seed": seed, "num_inference_steps": steps}
        answer = _tried(server, "POST", "/v1/jobs", ask, tally)
        if answer is None:
            time.sleep(0.5)
        elif answer[0] == 202:
            id = json.loads(answer[1])["id"]
            with tally.lock:
                tally.accepted.add(id)
            _fetch(server, id, seed, last, tally)
        elif answer[0] == 429:
            wait = answer[2].get("retry-after")
            with tally.lock:
                tally.no_retry_after += wait is None
            time.sleep(min(float(wait or 1), max(0.0, end - time.monotonic())))


def _tried(
    server: StudioProcess, method: str, path: str, body: Any, tally: Tally
) -> tuple[int, bytes, dict[str, str]] | None:
    try:
        answer = server.ask(method, path, body)
    except (OSError, http.client.HTTPException):  # the server was killed meanwhile
        with tally.lock:
            tally.broken += 1
        return None
    with tally.lock:
        tally.statuses[answer[0]] += 1
    return answer


def _fetch(server: StudioProcess, id: str, seed: int, last: float, tally: Tally) -> None:
    while time.monotonic() < last:
        answer = _tried(server, "GET", f"/v1/jobs/{id}/result", None, tally)
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


def _told(tally: Tally, took: float, counters: dict[str, float], cpu_s: float, kills: int) -> str:
    lost = tally.accepted - set(tally.fetched)
    doubled = [id for id, count in tally.fetched.items() if count > 1]
    server_errors = {status: n for status, n in tally.statuses.items() if status >= 500}
    images, batches = counters.get("humansd_images_total", 0.0), counters.get("humansd_batch_size_count", 0.0)
    lines = [
        f"{len(tally.accepted)} jobs accepted, {len(tally.fetched)} fetched, {len(lost)} lost, {len(doubled)} doubled, "
        f"{tally.wrong} wrong; {kills} kills, {tally.broken} broken connections, {took:.0f} s",
        f"answers: {dict(sorted(tally.statuses.items()))}, {tally.no_retry_after} of 429 without Retry-After",
    ]
    memory = [mb for mb in tally.memory_mb if mb]
    grows = False
    if len(memory) >= 3 and not kills:
        third = len(memory) // 3
        first, final = sum(memory[third : 2 * third]) / third, sum(memory[-third:]) / third
        grows = len(memory) >= _LONG and final > first * _FLAT
        lines.append(f"memory: {first:.0f} MB in the second third of the time, {final:.0f} MB in the last")
    if batches:
        lines.append(
            f"since the last start: {images / batches:.1f} images a batch, {cpu_s / images:.2f} CPU s an image"
        )
    if lost or doubled or tally.wrong or server_errors or tally.no_retry_after or grows:
        raise ValueError("; ".join(lines))
    return "\n".join(lines)
