"""What a client is told of a field that it got wrong: the name that is meant here, and what a body should be."""

from __future__ import annotations

import time

import pytest

from studio_server import client_of, settings_of, tiny_model


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with client_of(settings_of(tiny_model(tmp_path_factory.mktemp("model") / "tiny"))) as client:
        yield client


def _message(answer) -> str:
    assert answer.status_code in (400, 422), answer.text
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("steps", "num_inference_steps"),
        ("cfg_scale", "guidance_scale"),
        ("sampler", "scheduler"),
        ("size", "width and height"),
        ("negative_promt", "negative_prompt"),
        ("posee", "pose"),
    ],
)
def test_another_tools_name_or_a_misspelling_is_answered_with_ours(client, name, meant):
    told = _message(client.post("/v1/generate", json={"prompt": "a man", name: 4}))
    assert told == f"{name}: there is no such field; write {meant}"


def test_openais_own_fields_pass_and_a_misnamed_one_of_ours_does_not(client):
    fine = {"prompt": "a man", "quality": "hd", "style": "vivid", "user": "me", "background": "auto", "seed": 1}
    fine |= {"moderation": "low", "stream": False, "partial_images": 0, "output_compression": 100, "n": 1}
    assert client.post("/v1/images/generations", json=fine).status_code == 200
    told = _message(client.post("/v1/images/generations", json={"prompt": "a man", "steps": 4}))
    assert told == "steps: there is no such field; write num_inference_steps"


def test_many_unknown_names_cost_no_time(client):
    many = {"prompt": "a man", "seed": 1} | {f"key{number}": 0 for number in range(50_000)}
    begun = time.monotonic()
    assert client.post("/v1/images/generations", json=many).status_code == 200
    assert time.monotonic() - begun < 10


def test_what_is_no_json_is_told_so(client):
    json_type = {"content-type": "application/json"}
    told = _message(client.post("/v1/generate", content=b'{"prompt": "a", }', headers=json_type))
    assert told.startswith("the body is no JSON: at letter 1")
    for body, headers in ((b'{"prompt": "a man"}', {"content-type": "text/plain"}), (b'"a man"', json_type), (b"", {})):
        told = _message(client.post("/v1/generate", content=body, headers=headers))
        assert "Content-Type: application/json" in told, told


def test_a_size_far_from_the_models_own_is_refused_with_its_own(client):
    own = client.get("/v1/models").json()["data"][0]["defaults"]
    largest = {"width": 4 * own["width"], "height": 4 * own["height"]}
    assert client.post("/v1/generate", json={"prompt": "a man", **largest}).status_code == 200
    step = client.get("/v1/models").json()["data"][0]["size_step"]
    told = _message(client.post("/v1/generate", json={"prompt": "a man", **largest, "width": largest["width"] + step}))
    assert f"{own['width']} x {own['height']} px" in told
    told = _message(client.post("/v1/images/generations", json={"prompt": "a man", "size": "1024x1024"}))
    assert "far from what tiny was made for" in told
