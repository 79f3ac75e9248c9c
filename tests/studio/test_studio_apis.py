"""The APIs that others speak: poses in and out, OpenAI's images with its own client, WebUI with ControlNet units."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.pose.formats import FORMATS, read_poses
from humansd.pose.people import People
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from humansd.pose.skeleton import COCO17
from humansd.studio.app import create_app
from studio_server import client_of, encoded, limits, opened, pixels, served, settings_of, tiny_model
from tiny_pipeline import standing

EXAMPLES = Path(__file__).parents[2] / "examples" / "poses"
POSE = standing().to_json()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model):
    with client_of(settings_of(model)) as client:
        yield client


@pytest.fixture(scope="module")
def address(model):
    with served(create_app(settings_of(model))) as address:
        yield address


def example(name: str) -> People:
    return next(iter(read_poses(EXAMPLES / f"{name}.json").values()))


def test_labels_of_numbers_and_foreign_key_points_are_read(client):
    label = "0 0.5 0.5 0.4 0.8 " + " ".join(f"{0.3 + 0.02 * j:.2f} {0.2 + 0.03 * j:.2f} 2" for j in range(17))
    answer = client.post("/v1/poses/read?canvas=200x100", content=label.encode()).json()
    people = People.from_json(answer["poses"][0]["pose"])
    assert people.canvas == (200, 100)
    assert people.xy[0, 0] == pytest.approx([60, 20], abs=0.5)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_comes_out_and_in_again(client, format):
    people = example("two_people")
    wanted = {"poses": [{"name": "two", "pose": people.to_json()}], "format": format}
    file = client.post("/v1/poses/export", json=wanted)
    assert file.status_code == 200, file.text
    read = client.post("/v1/poses/read?skeleton=coco17", content=file.content).json()
    again = People.from_json(read["poses"][0]["pose"])
    assert read["poses"][0]["name"] == "two"
    assert np.allclose(again.xy, people.xy)
    assert np.array_equal(again.visibility, people.visibility)


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"", "is empty"), (b"{", "not valid JSON"), (b"[1]", "no known pose format"), (b"PK\x03\x04", "npz")],
)
def test_a_pose_file_that_cannot_be_read_is_told_without_a_path_of_the_server(client, body, words):
    answer = client.post("/v1/poses/read", content=body)
    assert answer.status_code == 422
    assert words in answer.json()["detail"] or "JSON" in answer.json()["detail"]
    assert "/tmp" not in answer.text


def test_presets_are_poses_with_names(client):
    poses = client.get("/v1/poses/presets").json()["poses"]
    assert {"standing", "two_people"} <= {one["name"] for one in poses}
    assert all(People.from_json(one["pose"]).n for one in poses)


def test_comparing_says_how_far_every_joint_is_off(client, monkeypatch):
    wished = example("standing")
    moved = wished.xy.copy()
    moved[0, 9] += (30, 40)
    engine = client.app.state.engine
    monkeypatch.setattr(engine, "detect", lambda image, name="": People.of(moved, wished.canvas))
    image = encoded(np.zeros((wished.canvas[1], wished.canvas[0], 3), np.uint8))
    answer = client.post("/v1/poses/compare", json={"pose": wished.to_json(), "image": image}).json()
    assert answer["pairs"][0]["errors"][9] == pytest.approx(50)
    assert answer["mean_error"] == pytest.approx(50 / 17)
    assert (answer["missing"], answer["extra"]) == (0, 0)
    assert 0.9 < answer["similarity"] < 1


def test_nobody_in_a_black_photograph(client):
    found = client.post(
        "/v1/poses/detect", content=__import__("base64").b64decode(encoded(np.zeros((64, 64, 3), np.uint8)))
    )
    assert found.status_code == 200, found.text
    assert People.from_json(found.json()["pose"]).canvas == (64, 64)


def test_the_openai_client_generates_and_edits(address):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="not-needed")
    assert [one.id for one in client.models.list()] == ["tiny"]
    extra = {"pose": POSE, "seed": 4, "num_inference_steps": 2, "guidance_scale": 3.0, "negative_prompt": "blue"}
    made = client.images.generate(model="tiny", prompt="a man", n=2, size="16x16", extra_body=extra)
    one, two = (pixels(image.b64_json) for image in made.data)
    assert one.shape == (16, 16, 3)
    assert not np.array_equal(one, two)
    info = json.loads(opened(made.data[0].b64_json).text["humansd"])
    assert (info["seed"], info["negative_prompt"], info["settings"]["guidance_scale"]) == (4, "blue", 3.0)
    begin = np.full((16, 16, 4), 255, np.uint8)
    begin[:, 8:, 3] = 0  # where it may change
    png = __import__("base64").b64decode(encoded(begin))
    edited = client.images.edit(
        image=("a.png", png), mask=("m.png", png), prompt="a man", extra_body={"pose": json.dumps(POSE), "seed": 1}
    )
    changed = np.abs(pixels(edited.data[0].b64_json).astype(int) - 255)
    assert changed[:, :8].max() <= 1
    assert changed[:, 8:].max() > 10
    with pytest.raises(openai.BadRequestError, match="more than this server draws"):
        client.images.generate(prompt="a man", size="4096x4096")


def test_webui_draws_the_pose_of_a_controlnet_unit(client):
    ask = {
        "prompt": "a man", "negative_prompt": "", "steps": 3, "cfg_scale": 4.0, "width": 16, "height": 16, "seed": 5,
        "batch_size": 2, "n_iter": 1, "sampler_name": "DDIM", "enable_hr": False, "restore_faces": False,
    }  # fmt: skip
    plain = client.post("/sdapi/v1/txt2img", json=ask).json()
    assert len(plain["images"]) == 2
    assert json.loads(plain["info"])["all_seeds"] == [5, 6]
    drawing = encoded(draw_people(example("standing").fit(256, 256), OPENPOSE_STYLE))
    by_image = {
        "enabled": True,
        "module": "none",
        "model": "control_v11p_sd15_openpose",
        "image": drawing,
        "weight": 1.0,
    }
    by_json = {"pose": example("standing").to_json()}
    posed = [
        pixels(
            client.post("/sdapi/v1/txt2img", json=ask | {"alwayson_scripts": {"ControlNet": {"args": [unit]}}}).json()[
                "images"
            ][0]
        )
        for unit in (by_image, by_image | {"image": {"image": drawing, "mask": None}}, by_json)
    ]
    assert not np.array_equal(pixels(plain["images"][0]), posed[0])
    assert np.array_equal(posed[0], posed[1])
    begun = client.post(
        "/sdapi/v1/img2img",
        json=ask | {"init_images": [encoded(np.zeros((16, 16, 3), np.uint8))], "denoising_strength": 0.7},
    )
    assert begun.status_code == 200, begun.text


def test_the_webui_client_works_unchanged(address):
    webuiapi = pytest.importorskip("webuiapi", reason="webuiapi is not installed")
    api = webuiapi.WebUIApi(host="127.0.0.1", port=int(address.rsplit(":", 1)[1]), sampler="Euler a", steps=4)
    drawing = Image.fromarray(draw_people(example("standing").fit(256, 256), OPENPOSE_STYLE))
    unit = webuiapi.ControlNetUnit(image=drawing, module="none", model="control_v11p_sd15_openpose")
    size = {"prompt": "a man", "width": 16, "height": 16, "seed": 3, "cfg_scale": 4}
    made = api.txt2img(**size, controlnet_units=[unit])
    assert (made.image.size, made.info["seed"], made.parameters["steps"]) == ((16, 16), 3, 4)
    assert api.img2img(images=[made.image], **size, denoising_strength=0.7).image.size == (16, 16)
    assert api.controlnet_detect([drawing], module="none").image.size == (256, 256)
    assert api.controlnet_model_list() == api.util_get_model_names() == ["tiny"]


@pytest.mark.parametrize("path", ["txt2img", "img2img"])
def test_an_interrupted_webui_client_gets_the_images_there_are(model, path):
    ask = {"prompt": "a man", "steps": 40, "width": 16, "height": 16, "seed": 5, "batch_size": 3}
    ask |= {"init_images": [encoded(np.zeros((16, 16, 3), np.uint8))]} if path == "img2img" else {}
    with client_of(settings_of(model, limits=limits(batch=1))) as client:
        engine = client.app.state.engine
        answers: list = []
        waits = threading.Thread(target=lambda: answers.append(client.post(f"/sdapi/v1/{path}", json=ask)))
        waits.start()
        while not any(job.results[0] for job in list(engine.live.values())):
            time.sleep(0.005)
        assert client.post("/sdapi/v1/interrupt").status_code == 200
        waits.join()
        made = answers[0]
        assert made.status_code == 200, made.text
        info = json.loads(made.json()["info"])
        assert 1 <= len(made.json()["images"]) == len(info["all_seeds"]) == len(info["infotexts"]) < 3
        assert info["interrupted"] is True
        assert opened(made.json()["images"][0]).size == (16, 16)


def test_the_unit_of_webuis_client_is_empty_as_it_stands():
    webuiapi = pytest.importorskip("webuiapi", reason="webuiapi is not installed")
    unit = webuiapi.ControlNetUnit().to_dict()
    assert (unit["image"], unit["model"], unit["enabled"]) == ("", "None", True)


def test_a_webui_client_that_is_interrupted_before_the_first_image_gets_none(address):
    webuiapi = pytest.importorskip("webuiapi", reason="webuiapi is not installed")
    api = webuiapi.WebUIApi(host="127.0.0.1", port=int(address.rsplit(":", 1)[1]))
    made: list = []
    ask = {"prompt": "a man", "width": 16, "height": 16, "batch_size": 8, "steps": 150}
    waits = threading.Thread(target=lambda: made.append(api.txt2img(**ask)))
    waits.start()
    while not api.get_progress()["state"]["job_count"]:
        time.sleep(0.01)
    api.interrupt()
    waits.join()
    assert made[0].images == []
    assert made[0].info["interrupted"] is True
    assert made[0].info["notes"] == ["interrupted after 0 of 8 images"]


def test_a_controlnet_unit_that_nobody_filled_in_is_passed_over_and_a_half_filled_one_refused(client):
    ask = {"prompt": "a man", "width": 16, "height": 16, "seed": 5, "steps": 2}

    def answer(*units):
        return client.post("/sdapi/v1/txt2img", json=ask | {"alwayson_scripts": {"controlnet": {"args": list(units)}}})

    plain = client.post("/sdapi/v1/txt2img", json=ask).json()["images"]
    empty = [{}, {"enabled": False, "module": "openpose"}]
    empty.append({"image": "", "mask": None, "module": "none", "model": "None", "weight": 1.0, "enabled": True})
    assert answer(*empty).json()["images"] == plain
    assert answer().json()["images"] == plain
    refused = answer({}, {"module": "none"})
    assert refused.status_code == 422
    assert "alwayson_scripts.controlnet.args[1].image: is missing; send" in refused.json()["error"]["message"]


def test_webui_tells_what_there_is(client):
    assert client.get("/sdapi/v1/sd-models").json()[0]["model_name"] == "tiny"
    assert client.get("/sdapi/v1/options").json()["sd_model_checkpoint"] == "tiny"
    assert "Euler a" in [one["name"] for one in client.get("/sdapi/v1/samplers").json()]
    assert client.get("/sdapi/v1/progress").json()["progress"] == 0
    assert client.get("/controlnet/model_list").json() == {"model_list": ["tiny"]}
    drawing = encoded(draw_people(example("standing").fit(256, 256), OPENPOSE_STYLE))
    found = client.post("/controlnet/detect", json={"controlnet_module": "none", "controlnet_images": [drawing]}).json()
    assert found["poses"][0]["canvas_width"] == 256
    assert len(found["poses"][0]["people"]) == len(found["images"]) == 1


def test_an_example_of_the_schema_is_served(client):
    schema = client.get("/openapi.json").json()
    example = schema["components"]["schemas"]["GenerateRequest"]["examples"][0]
    assert client.post("/v1/generate", json=example).status_code == 200
    assert COCO17.name in client.get("/v1/studio").json()["skeletons"]
