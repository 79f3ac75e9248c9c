"""What a client is told of a field that it got wrong: the name that is meant here, and what a body should be."""

from __future__ import annotations

import base64
import time

import numpy as np
import pytest

from studio_server import client_of, encoded, settings_of, tiny_model

IMAGE = base64.b64decode(encoded(np.zeros((16, 16, 3), np.uint8)))
NO_CANVAS = {"people": [{"pose_keypoints_2d": [0.0] * 54}]}


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


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("/v1/generate", {"pose": 3}, "pose: must be a JSON object or a JSON list"),
        ("/v1/generate", {"canvas": "64x64"}, "canvas: must be [width, height] in px, two whole numbers"),
        ("/v1/generate", {"canvas": [64]}, "canvas: must be [width, height] in px, two whole numbers"),
        ("/v1/generate", {"seed": 1.5}, "seed: must be a whole number"),
        ("/v1/generate", {"guidance_scale": 101}, "guidance_scale: must be 100.0 or less"),
        ("/v1/generate", {"prompt": ""}, "prompt: must not be empty"),
        ("/v1/generate", {"model": "m" * 201}, "model: must have 200 letters at most"),
        ("/v1/generate", {"response_format": "url"}, "response_format: must be 'b64_json' or 'png'"),
        ("/v1/generate", {"n": 0, "preview": "maybe"}, "n: must be 1 or more; preview: must be true or false"),
        ("/v1/images/generations", {"size": "huge"}, 'size: must be WIDTHxHEIGHT in px, as "512x768", or "auto"'),
        ("/v1/images/generations", {"seed": -1}, "seed: must be 0 or more"),
        ("/v1/poses/export", {"poses": []}, "poses: must hold 1 at least, and holds 0"),
        (
            "/sdapi/v1/img2img",
            {"inpainting_mask_invert": "x"},
            "inpainting_mask_invert: must be a whole number or true",
        ),
    ],
)
def test_what_is_wanted_is_said_in_words(client, path, changes, words):
    told = _message(client.post(path, json={"prompt": "a man"} | changes))
    assert told.startswith(words)
    assert "Input should" not in told


def test_a_forms_size_is_told_as_that_of_a_body(client):
    form = {"prompt": "a man", "size": "huge"}
    told = _message(client.post("/v1/images/edits", data=form, files={"image": ("a.png", IMAGE)}))
    assert told == 'size: must be WIDTHxHEIGHT in px, as "512x768", or "auto"'


def test_what_is_no_image_is_told_without_the_insides_of_the_server(client):
    text = base64.b64encode(b"plain text").decode()
    told = _message(client.post("/v1/generate", json={"prompt": "a man", "image": text}))
    assert told == "image: is no image that can be read here; send a PNG, JPEG or WebP"
    told = _message(
        client.post("/v1/generate", json={"prompt": "a man", "image": base64.b64encode(IMAGE[:40]).decode()})
    )
    assert " at 0x" not in told


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/generate", {"prompt": "a man", "pose": NO_CANVAS}, "or send `canvas` as [width, height]"),
        ("/v1/images/generations", {"prompt": "a man", "pose": NO_CANVAS}, "or send `size`"),
        ("/v1/poses/export", {"poses": [{"pose": NO_CANVAS}]}, "Add canvas_width and canvas_height to it."),
        ("/v1/poses/read", NO_CANVAS, "or add ?canvas=WIDTHxHEIGHT to the address"),
    ],
)
def test_who_sends_no_canvas_is_told_what_this_route_takes(client, path, body, words):
    told = _message(client.post(path, json=body))
    assert "canvas_width: is missing" in told
    assert words in told
    assert "--canvas" not in told
    if path == "/v1/generate":
        assert told.startswith("pose.canvas_width: ")
        assert client.post(path, json=body | {"canvas": [64, 64]}).status_code in (200, 400)
    if path == "/v1/poses/read":
        assert client.post(f"{path}?canvas=64x64", json=body).status_code == 200
        assert _message(client.post(f"{path}?canvas=64", json=body)).startswith("canvas: must be WIDTHxHEIGHT in px")


@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("txt2img", {"steps": 151}, "steps: 151 is more than this server takes, 150 at most"),
        ("img2img", {"init_images": ["http://a/b.png"]}, "init_images[0]: addresses are not opened"),
        ("txt2img", {"width": 17, "height": 16}, "width is 17 px"),
    ],
)
def test_webuis_client_is_told_of_the_fields_that_it_sent(client, path, changes, words):
    answer = client.post(f"/sdapi/v1/{path}", json={"prompt": "a man"} | changes)
    assert _message(answer).startswith(words)
    assert answer.json()["detail"].startswith(words)


def test_remedies_of_the_command_line_are_not_told(client):
    told = _message(client.post("/v1/generate", json={"prompt": "a man", "pose": [[1, 2, 3]]}))
    assert told.startswith("pose: is JSON, but of no known pose format. Give COCO")
    assert "`humansd" not in told
    image = {"id": 1, "width": 64, "height": 64, "file_name": "a.png"}
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1.0, 2.0, 2] * 25}
    told = _message(client.post("/v1/poses/read", json={"images": [image], "annotations": [person]}))
    assert "Give 17 joints as one list of 51 numbers" in told
    assert "--" not in told
    shares = {"canvas_width": 64, "canvas_height": 64, "people": [{"pose_keypoints_2d": [0.3, 0.4, 1.0] * 18}]}
    notes = client.post("/v1/poses/read", json=shares).json()["notes"]
    assert notes == ["coordinates are read as 0..1: shares of the canvas, where most of them lie"]
