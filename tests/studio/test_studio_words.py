"""A model of few words in the studio: what it leaves out, and that it says so; tags that load nothing."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from studio_server import client_of, finished, opened, pixels, settings_of, tiny_model

KNOWN = ["a", "man", "in", "red", "photo", "sketch"]
STRANGE = {"prompt": "a blurred man", "negative_prompt": "red lorry", "seed": 7}
NOTES = [
    "prompt: this model does not know 'blurred', left out; GET /v1/words lists what it knows",
    "negative_prompt: this model does not know 'lorry', left out; GET /v1/words lists what it knows",
    "prompt: no style is named, so 'photo' is; GET /v1/words lists the others as `scenes`",
]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    few, many = (tiny_model(tmp_path_factory.mktemp(name) / name) for name in ("few", "many"))
    Path(few, "words.json").write_text(json.dumps({"words": KNOWN, "scenes": ["photo", "sketch"], "styles": []}))
    with client_of(settings_of(few, models=(("few", few), ("many", many)))) as client:
        yield client


def made(client, **ask):
    answer = client.post("/v1/generate", json=ask)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_words_that_are_not_known_are_left_out_and_named(client):
    answer = made(client, **STRANGE)
    assert answer["notes"] == NOTES
    info = answer["data"][0]["info"]
    assert (info["prompt"], info["negative_prompt"], info["notes"]) == ("photo, a man", "red", NOTES)
    plain = made(client, prompt="photo, a man", negative_prompt="red", seed=7)
    assert plain["notes"] == []
    assert "notes" not in plain["data"][0]["info"]
    assert np.array_equal(*(pixels(one["data"][0]["b64_json"]) for one in (answer, plain)))


def test_a_job_and_the_other_apis_say_it_too(client):
    job = client.post("/v1/jobs", json=STRANGE).json()
    assert job["notes"] == NOTES
    finished(client, job["id"])
    assert client.get(f"/v1/jobs/{job['id']}/result").json()["notes"] == NOTES
    info = json.loads(client.post("/sdapi/v1/txt2img", json=STRANGE | {"width": 16, "height": 16}).json()["info"])
    assert info["notes"] == NOTES
    assert info["all_prompts"] == ["photo, a man"]
    image = client.post("/v1/images/generations", json={"prompt": "a blurred man"}).json()["data"][0]
    assert image["revised_prompt"] == "photo, a man"
    assert opened(image["b64_json"]).text["parameters"].startswith("photo, a man")


def test_a_model_of_all_words_changes_and_notes_nothing(client):
    answer = made(client, model="many", **STRANGE)
    assert answer["notes"] == []
    assert answer["data"][0]["info"]["prompt"] == STRANGE["prompt"]


def test_the_words_of_a_model_are_listed(client):
    assert client.get("/v1/words").json()["words"]["scenes"] == ["photo", "sketch"]
    assert client.get("/v1/words?model=many").json() == {"words": None}
    assert client.get("/v1/words?model=other").status_code == 404


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"])
def test_a_tag_that_loads_nothing_is_refused(client, path, field):
    answer = client.post(path, json={"prompt": "a man", field: "a man <lora:coat:0.8>"})
    assert answer.status_code == 400, answer.text
    told = answer.json()["error"]["message"]
    assert told.startswith(f"{field}: has the tag <lora:coat:0.8>")
    assert "/v1/models" in told
    assert "--lora" not in told


def test_the_vocabulary_travels_from_the_process_that_draws(client):
    about = client.app.state.engine.models["few"].by(None).about
    assert about.vocabulary.words == set(KNOWN)
    here, there = multiprocessing.Pipe()
    here.send(about)
    assert there.recv() == about
