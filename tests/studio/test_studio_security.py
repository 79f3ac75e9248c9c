"""Who may ask the studio, and what it refuses to open."""

from __future__ import annotations

import base64
import io
import logging
import struct
import zlib

import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.studio.security import digest, read_keys
from studio_server import client_of, limits, settings_of, tiny_model
from tiny_pipeline import standing

ASK = {"prompt": "a very private sentence", "pose": standing().to_json(), "seed": 7}
ONE, TWO = "first-key-of-sixteen", "second-key-of-sixteen"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model):
    with client_of(settings_of(model)) as client:
        yield client


@pytest.fixture(scope="module")
def keyed(model):
    with client_of(settings_of(model, keys=frozenset(map(digest, (ONE, TWO))), host="0.0.0.0")) as client:
        yield client


def bearer(key):
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:81"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8188"},
    ],
)
def test_other_pages_and_rebound_names_are_refused(client, headers):
    assert client.post("/v1/generate", json=ASK, headers=headers).status_code == 403
    assert client.get("/v1/models", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://testserver"}, {"host": "localhost:8188"}, {"host": "[::1]:8188"}]
)
def test_the_own_page_and_programs_are_served(client, headers):
    assert client.get("/v1/models", headers=headers).status_code == 200


def test_a_page_that_is_allowed_may_ask_and_read(model):
    with client_of(settings_of(model, allowed_origins=("https://app.example",))) as client:
        answer = client.get("/v1/models", headers={"origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert client.get("/v1/models", headers={"origin": "https://other.example"}).status_code == 403


def test_another_host_needs_keys(model):
    with pytest.raises(ValueError, match="no API key is set"):
        settings_of(model, host="0.0.0.0")


def test_keys_are_asked_for_and_jobs_belong_to_theirs(keyed):
    assert keyed.get("/v1/models").status_code == 401
    told = keyed.get("/v1/models", headers=bearer("wrong"))
    assert told.status_code == 401
    assert "the API key given is not one of this server's" in told.json()["error"]["message"]
    assert "an API key is needed" in keyed.get("/v1/models").json()["error"]["message"]
    assert keyed.get("/healthz").status_code == keyed.get("/").status_code == 200
    assert keyed.get("/metrics").status_code == 401
    basic = "Basic " + base64.b64encode(f"me:{ONE}".encode()).decode()
    assert keyed.get("/sdapi/v1/options", headers={"authorization": basic}).status_code == 200
    id = keyed.post("/v1/jobs", json=ASK, headers=bearer(ONE)).json()["id"]
    assert keyed.get(f"/v1/jobs/{id}", headers=bearer(TWO)).status_code == 404
    assert keyed.delete(f"/v1/jobs/{id}", headers=bearer(TWO)).status_code == 404
    assert keyed.get(f"/v1/jobs/{id}", headers=bearer(ONE)).status_code == 200


def test_the_schema_names_the_key_and_the_refusals(client, keyed):
    assert keyed.get("/openapi.json").status_code == 401
    schema = keyed.get("/openapi.json", headers=bearer(ONE)).json()
    scheme = schema["components"]["securitySchemes"]["HTTPBearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path in ("/v1/generate", "/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/sdapi/v1/txt2img"):
        route = schema["paths"][path]["post"]
        assert route["security"] == [{"HTTPBearer": []}]
        assert {"400", "401", "404", "413", "422", "429", "503"} <= set(route["responses"])
        assert "Retry-After" in route["responses"]["429"]["headers"]
    assert schema["paths"]["/metrics"]["get"]["security"]
    assert "security" not in schema["paths"]["/healthz"]["get"]
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_a_file_of_keys_is_read_and_weak_ones_are_refused(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the tablet\n{ONE}\n\n{TWO}\n")
    assert read_keys(file) == {digest(ONE), digest(TWO)}
    file.write_text("short")
    with pytest.raises(ValueError, match="could be guessed"):
        read_keys(file)


def bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels, in a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [5000, 60000])
def test_an_image_bomb_is_not_decoded(client, side):
    answer = client.post("/v1/poses/detect", content=bomb(side))
    assert answer.status_code == 413
    text = base64.b64encode(bomb(side)).decode()
    assert client.post("/v1/generate", json=ASK | {"image": text}).status_code == 413


def test_a_body_that_is_too_large_is_refused_before_and_while_it_is_read(model):
    with client_of(settings_of(model, limits=limits(body_bytes=10_000))) as client:
        assert client.post("/v1/poses/read", content=b"x" * 10_001).status_code == 413
        chunks = (b"x" * 1000 for _ in range(20))
        assert client.post("/v1/poses/read", content=chunks).status_code == 413
        assert client.post("/v1/generate", json=ASK).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": "a", "seed": 1e999}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "pose": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"",
        b'{"prompt": "a", "pose": {"people": [{"pose_keypoints_2d": [1e400]}]}}',
    ],
)
def test_odd_bodies_are_refused_and_do_not_break_the_answer(client, body):
    answer = client.post("/v1/generate", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


def test_prompts_are_not_logged(client, caplog):
    with caplog.at_level(logging.DEBUG):
        assert client.post("/v1/generate", json=ASK).status_code == 200
        client.post("/v1/generate", json=ASK | {"pose": {"people": [3]}})
    assert "private" not in caplog.text


def test_the_page_may_load_nothing_from_elsewhere(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404
    assert io.BytesIO(client.get("/").content).read(15).lower() == b"<!doctype html>"
