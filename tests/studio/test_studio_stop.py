"""SIGTERM: new work is refused, what is begun is drawn and can be fetched, the rest is drawn by the next run."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from studio_quick import free_port, quick_client

SERVE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from humansd.studio import engine
from humansd.studio.serve import serve
from studio_quick import QuickEngine, quick_settings

def made(settings, processes):
    quick = QuickEngine(settings)
    quick.hold = lambda: time.sleep(float(sys.argv[4]))
    return quick

engine.Engine = made
serve(quick_settings(port=int(sys.argv[2]), state=sys.argv[3], shutdown_s=150.0))
"""
ASK = {"prompt": "a man", "num_inference_steps": 10}


class Server:
    """A studio in a process of its own that takes `step_s` for a step."""

    def __init__(self, state: Path, step_s: float) -> None:
        self.port = free_port()
        arguments = [str(Path(__file__).parents[1]), str(self.port), str(state), str(step_s)]
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, *arguments])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPMessage]:
        """Status, JSON and headers, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null"), answer.headers

    def until(self, path: str, true: Any) -> Any:
        """What is at the address, once that is true of it."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                status, value, _ = self.ask("GET", path)
                if true(status, value):
                    return value
            time.sleep(0.05)
        raise AssertionError(path)


@contextlib.contextmanager
def server(state: Path, step_s: float) -> Iterator[Server]:
    one = Server(state, step_s)
    try:
        one.until("/readyz", lambda status, value: status == 200)
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def job(one: Server, **more: Any) -> str:
    return str(one.ask("POST", "/v1/jobs", ASK | more)[1]["id"])


def running(one: Server, id: str) -> None:
    one.until(f"/v1/jobs/{id}", lambda status, value: value["state"] == "running")


def test_what_is_begun_is_drawn_and_fetched_and_what_waits_is_drawn_by_the_next_run(tmp_path):
    answers: list = []
    with server(tmp_path, 0.3) as one:
        first, second = job(one, seed=1), job(one, seed=2, num_inference_steps=9)
        waits = threading.Thread(target=lambda: answers.append(one.ask("POST", "/v1/generate", ASK | {"seed": 3})))
        waits.start()
        running(one, first)
        one.until("/sdapi/v1/progress", lambda status, value: value["state"]["job_count"] == 3)
        one.process.send_signal(signal.SIGTERM)
        one.until("/healthz", lambda status, value: value == {"status": "stopping"})
        assert one.ask("GET", "/readyz")[:2] == (503, {"status": "stopping"})
        for path in ("/v1/generate", "/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img", "/v1/poses/detect"):
            status, told, headers = one.ask("POST", path, ASK)
            assert (status, told["error"]["code"]) == (503, "stopping")
            assert int(headers["retry-after"]) >= 1
        one.until(f"/v1/jobs/{first}", lambda status, value: value["state"] == "done")
        assert len(one.ask("GET", f"/v1/jobs/{first}/result")[1]["data"]) == 1
        waits.join(170)
        assert answers[0][0] == 200
        assert one.process.wait(170) == -signal.SIGTERM
    with server(tmp_path, 0.0) as one:
        done = one.until(f"/v1/jobs/{second}", lambda status, value: value["state"] == "done")
        assert done["error"] is None


def test_a_second_signal_ends_it_at_once(tmp_path):
    with server(tmp_path, 2.0) as one:
        running(one, job(one))
        one.process.send_signal(signal.SIGTERM)
        one.until("/healthz", lambda status, value: value == {"status": "stopping"})
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(10) == -signal.SIGINT


def test_without_work_it_ends_at_once(tmp_path):
    with server(tmp_path, 0.0) as one:
        done = job(one)
        one.until(f"/v1/jobs/{done}", lambda status, value: value["state"] == "done")
        begun = time.monotonic()
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(60) in (0, 1, 130, -signal.SIGINT)
        assert time.monotonic() - begun < 20


def test_who_waits_or_follows_is_told_before_the_time_is_over():
    with quick_client(shutdown_s=2.0) as client:
        engine, go, answers = client.app.state.engine, threading.Event(), []
        engine.hold = lambda: go.wait(30)
        id = client.post("/v1/jobs", json=ASK).json()["id"]
        waits = threading.Thread(target=lambda: answers.append(client.post("/v1/generate", json=ASK)))
        waits.start()
        while len(engine.live) < 2:
            time.sleep(0.01)
        engine.stopping()
        waits.join(30)
        assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "stopping")
        assert answers[0].headers["retry-after"]
        assert "event: end" not in client.get(f"/v1/jobs/{id}/events").text
        assert client.post("/sdapi/v1/interrupt").status_code == 200
        go.set()
