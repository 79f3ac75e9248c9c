"""Starting: the page is there before the models are, what needs a model waits, and what goes wrong is told at once."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from humansd.studio import engine as engine_module
from humansd.studio.app import create_app
from humansd.studio.engine import Engine
from studio_server import limits, settings_of, tiny_model

HEAVY = ("torch", "diffusers", "transformers")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def held(monkeypatch):
    """Loading waits until this event is set."""
    go = threading.Event()
    load = engine_module.load_workers

    def slowly(*args):
        assert go.wait(60)
        return load(*args)

    monkeypatch.setattr(engine_module, "load_workers", slowly)
    yield go
    go.set()


def test_the_application_itself_needs_no_network():
    code = f"import humansd.studio.app, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_page_and_poses_come_before_the_model_and_requests_wait_for_it(model, held):
    settings = settings_of(model)
    told = []
    with TestClient(create_app(settings, Engine(settings), told.append)) as client:
        assert client.get("/").status_code == client.get("/static/main.js").status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/v1/poses/presets").json()["poses"]
        assert client.get("/v1/studio").json()["skeletons"]
        answers = []
        ask = {"prompt": "photo, a man", "seed": 1}
        asking = threading.Thread(target=lambda: answers.append(client.post("/v1/generate", json=ask)))
        asking.start()
        asking.join(1)
        assert asking.is_alive()
        assert not answers
        assert not told
        held.set()
        asking.join(60)
        assert answers[0].status_code == 200
        assert len(answers[0].json()["data"]) == 1
        assert client.get("/readyz").status_code == 200
        assert told == [None]


def test_who_waited_too_long_for_the_model_is_told_when_to_come_back(model, held):
    settings = settings_of(model, limits=limits(sync_s=0.2))
    with TestClient(create_app(settings, Engine(settings))) as client:
        answer = client.get("/v1/models")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "still being loaded" in answer.json()["error"]["message"]
        held.set()


def test_what_keeps_a_model_from_loading_is_told_once(tmp_path):
    settings = settings_of(str(tmp_path / "nothing"))
    told, heard = [], threading.Event()

    def on_loaded(error):
        told.append(error)
        heard.set()

    with TestClient(create_app(settings, Engine(settings), on_loaded)):
        assert heard.wait(60)
    assert len(told) == 1
    assert "nothing" in str(told[0])


def test_requests_that_wait_for_a_model_that_cannot_be_loaded_are_answered(tmp_path, held):
    settings = settings_of(str(tmp_path / "nothing"))
    with TestClient(create_app(settings, Engine(settings))) as client:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(client.get("/v1/models")))
        asking.start()
        held.set()
        asking.join(60)
        assert answers[0].status_code == 503
        assert client.get("/readyz").status_code == 503


def test_a_stop_does_not_wait_for_a_model_that_is_being_loaded(model, held):
    settings = settings_of(model)
    told = []
    with TestClient(create_app(settings, Engine(settings), told.append)) as client:
        assert client.get("/readyz").status_code == 503
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    held.set()
    time.sleep(0.5)
    assert told == []


def _studio(*options: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "humansd", "studio", *options], stdout=file, stderr=file)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        studio = _studio("--model", model, "--port", str(port), "--state", str(tmp_path / "s"), log=tmp_path / "log")
        assert studio.wait(60) == 2
    text = (tmp_path / "log").read_text()
    assert f"--port {port}" in text
    assert "give another --port" in text
    assert "loading" not in text


def test_a_model_that_cannot_be_loaded_ends_the_command(tmp_path):
    options = ("--model", str(tmp_path / "nothing"), "--port", str(_free_port()), "--state", str(tmp_path / "s"))
    assert _studio(*options, log=tmp_path / "log").wait(300) == 2
    text = (tmp_path / "log").read_text()
    assert "nothing" in text
    assert "torchvision" not in text  # what libraries say of each other
    assert "Traceback" not in text


def test_a_mistake_beside_the_models_ends_the_command_at_once(model, tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--model", model, "--port", str(_free_port()), "--state", str(tmp_path / "file" / "state"))
    assert _studio(*options, log=tmp_path / "log").wait(60) == 2
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_it_stops_while_it_loads(tmp_path):
    port = _free_port()
    options = ("--model", "pocket", "--port", str(port), "--state", str(tmp_path / "s"))
    studio = _studio(*options, log=tmp_path / "log")
    try:
        end = time.monotonic() + 60
        while _status(port) != 503 and time.monotonic() < end:
            time.sleep(0.05)
        waiting = threading.Thread(target=_status, args=(port, "/v1/models"), daemon=True)  # as the page always has one
        waiting.start()
        time.sleep(0.3)
        studio.send_signal(signal.SIGINT)
        assert studio.wait(10) in (0, 130, -signal.SIGINT)
    finally:
        studio.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def _status(port: int, path: str = "/readyz") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
