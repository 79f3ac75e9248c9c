"""What clients of WebUI send, old and new: what is read of it, and that nothing is passed over without a word."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.inference.words import Vocabulary
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from humansd.pose.skeleton import OPENPOSE18
from humansd.studio.weights import from_webui
from studio_quick import TINY, encoded, quick_client

STANDING = next(iter(read_poses(Path(__file__).parents[2] / "examples" / "poses" / "standing.json").values()))
DRAWING = encoded(Image.fromarray(draw_people(STANDING.fit(256, 256), OPENPOSE_STYLE)))
DATA_URL = f"data:image/png;base64,{DRAWING}"
IMAGE = encoded(Image.new("RGB", (16, 16), (9, 9, 9)))
ASK = {"prompt": "a man", "steps": 2, "width": 16, "height": 16, "seed": 5}
MANY = ("a", "man", "red", "photo", "hat")


@pytest.fixture(scope="module")
def client():
    few = Vocabulary(frozenset(MANY), {"scenes": ["photo"]})
    with quick_client(
        TINY, replace(TINY, name="weighs", weighs=True), replace(TINY, name="few", vocabulary=few)
    ) as client:
        yield client


def drawn(client, path="txt2img", **more):
    """(notes, the last task that was drawn)."""
    answer = client.post(f"/sdapi/v1/{path}", json=ASK | more)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["info"])["notes"], client.app.state.engine.drawn[-1]


def refused(client, path="/sdapi/v1/txt2img", status=422, **more):
    answer = client.post(path, json=ASK | more)
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a ((red)) [hat], (blue coat:1.3)", "a (red:1.21) (hat:0.91), (blue coat:1.3)"),
        ("(a (red:1.5) hat)", "(a:1.1) (red:1.65) (hat:1.1)"),
        ("[(red:1.2)]", "(red:1.09)"),
        ("a (red:1.0) hat)", "a red hat"),
        (r"a man \(series\)", "a man (series)"),
        (r"a \(tall\) (man:1.2)", "a tall (man:1.2)"),
        ("a (red", "a (red:1.1)"),
        ("photo: a man, 3:4", "photo: a man, 3:4"),
        ("a man", "a man"),
    ],
)
def test_brackets_of_webui_are_weights_of_the_words_inside(text, read):
    assert from_webui("prompt", text) == (read, [])


@pytest.mark.parametrize(
    ("text", "read", "words"),
    [
        ("a [man:woman:0.5] in red", "a man, woman in red", "prompt: [man:woman:0.5] is not read as a change"),
        ("a [man|woman]", "a man, woman", "prompt: [man|woman] is not read as a change"),
        ("a man BREAK red", "a man, red", "prompt: BREAK is not read"),
    ],
)
def test_prompts_that_change_while_they_are_drawn_are_told_of(text, read, words):
    prompt, (note,) = from_webui("prompt", text)
    assert prompt == read
    assert note.startswith(words)


def test_no_bracket_is_drawn_where_weights_are_not_read_and_a_note_says_so(client):
    notes, task = drawn(client, prompt="a ((red)) [hat] (coat:1.3)", negative_prompt="(blue:1.2)")
    assert (task.prompt, task.negative_prompt) == ("a red hat coat", "blue")
    assert notes[0].startswith("prompt: weights as in (red:1.21) are not read by this server")
    assert notes[1].startswith("negative_prompt: weights as in (blue:1.2)")
    notes, task = drawn(client, prompt="a (red:1.3) hat", override_settings={"sd_model_checkpoint": "few"})
    assert task.prompt == "photo, a red hat"
    assert "(red:1.3)" in notes[0]


def test_weights_reach_a_model_that_reads_them(client):
    notes, task = drawn(client, prompt="a ((red)) hat", override_settings={"sd_model_checkpoint": "weighs"})
    assert (task.prompt, notes) == ("a (red:1.21) hat", [])
    own = {"prompt": "a (red:1.3) (hat)", "model": "weighs", "seed": 1}
    assert client.post("/v1/generate", json=own).json()["notes"] == []
    assert client.app.state.engine.drawn[-1].prompt == "a (red:1.3) (hat)"  # brackets alone are text, as ever
    assert "a weight is a number from 0 to 3" in refused(client, prompt="a (red:4)")
    answer = client.post("/v1/generate", json=own | {"clip_skip": 1})
    assert answer.json()["error"]["message"].startswith("prompt: weights as in (red:1.3) and clip_skip")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"styles": ["anime"]}, "styles: is not read; write their words into the prompt"),
        ({"enable_hr": True, "hr_scale": 2}, "enable_hr: is not read; ask for the size itself"),
        ({"subseed_strength": 0.4}, "subseed_strength: is not read"),
        ({"script_name": "x/y/z plot"}, "script_name: is not read"),
        ({"alwayson_scripts": {"ADetailer": {"args": [{}]}}}, "alwayson_scripts.ADetailer: is not run"),
        ({"override_settings": {"sd_vae": "x"}}, "override_settings.sd_vae: is not read"),
    ],
)
def test_what_would_change_the_image_and_is_not_read_is_told(client, fields, words):
    (note,), _ = drawn(client, **fields)
    assert note.startswith(words)


def test_what_changes_nothing_is_not_told(client):
    plain = {"styles": [], "enable_hr": False, "hr_upscaler": "Latent", "subseed": -1, "subseed_strength": 0.0}
    plain |= {"eta": 1.0, "s_churn": 0, "s_noise": 1, "seed_resize_from_w": 0, "script_name": None, "script_args": []}
    plain |= {
        "tiling": False,
        "restore_faces": False,
        "save_images": True,
        "override_settings": {"samples_format": "x"},
    }
    plain |= {
        "alwayson_scripts": {"other": {"args": []}, "off": {"args": [False, 3]}},
        "scheduler": "automatic",
        "send_images": None,
        "x": 1,
    }
    assert drawn(client, **plain)[0] == []
    assert drawn(client, **dict.fromkeys((*plain, "negative_prompt", "cfg_scale", "batch_size")))[0] == []


def test_samplers_have_webuis_names_ours_and_a_schedule(client):
    for given, own in (
        ({"sampler_name": "Euler a"}, "euler-a"),
        ({"sampler_name": "k_euler_a"}, "euler-a"),
        ({"sampler_index": "dpm++-2m"}, "dpm++-2m"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, "dpm++-2m-karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Automatic"}, "dpm++-2m-karras"),  # as WebUI has it
        ({"sampler_name": "DPM++ 2M", "scheduler": "Uniform"}, "dpm++-2m"),
        ({"sampler_name": "Euler", "scheduler": "Automatic"}, "euler"),
        ({"sampler_name": "Automatic", "scheduler": "Automatic"}, ""),
    ):
        assert drawn(client, **given)[1].recipe.scheduler == own
    for one in client.get("/sdapi/v1/samplers").json():
        for name in (one["name"], *one["aliases"]):
            drawn(client, sampler_name=name)
    assert refused(client, sampler_name="Euler", scheduler="Karras", status=404).startswith("scheduler: 'Karras'")


def test_the_layer_of_the_text_encoder_is_read(client):
    assert drawn(client, override_settings={"CLIP_stop_at_last_layers": 2})[1].recipe.clip_skip == 1
    assert drawn(client, override_settings={"CLIP_stop_at_last_layers": 1})[1].recipe.clip_skip is None
    told = refused(client, override_settings={"CLIP_stop_at_last_layers": "two"})
    assert told.startswith("override_settings.CLIP_stop_at_last_layers: must be a whole number")
    both = {"sd_model_checkpoint": "weighs", "CLIP_stop_at_last_layers": 2}
    (note,), task = drawn(client, prompt="a (red:1.3) hat", override_settings=both)
    assert "is not read beside weights" in note
    assert task.recipe.clip_skip is None


def test_an_option_for_all_clients_is_refused_and_not_passed_over(client):
    assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny", "other": 1}).status_code == 200
    told = refused(client, "/sdapi/v1/options", 409, sd_model_checkpoint="weighs")
    assert "send override_settings.sd_model_checkpoint with each request" in told
    refused(client, "/sdapi/v1/options", 409, CLIP_stop_at_last_layers=2)
    refused(client, "/sdapi/v1/options", 404, sd_model_checkpoint="other")


@pytest.mark.parametrize(
    "fields",
    [
        {"alwayson_scripts": {"controlnet": {"args": [{"image": DRAWING}]}}},
        {"alwayson_scripts": {"ControlNet": {"args": [{"image": DATA_URL, "module": "None"}]}}},
        {"alwayson_scripts": {"controlnet": {"args": {"image": {"image": DRAWING, "mask": None}}}}},
        {"alwayson_scripts": {"controlnet": [{"input_image": DRAWING, "weight": 1}, {"enabled": False}]}},
        {"alwayson_scripts": {"controlnet": {"image": DRAWING}}},
        {"alwayson_scripts": {"controlnet": {"args": [{"controlnet_input_image": [DRAWING]}]}}},
        {"controlnet_units": [{"input_image": DRAWING, "module": "none", "model": "control_openpose"}]},
    ],
)
def test_a_unit_is_found_however_a_client_sends_it(client, fields):
    notes, task = drawn(client, **fields)
    assert notes == []
    assert isinstance(task.pose, People)
    assert task.pose.labelled.sum() > 10


def test_what_a_unit_says_and_is_not_done_is_told(client):
    unit = {"image": DRAWING, "guidance_start": 0.0, "guidance_end": 0.5, "control_mode": 1, "weight": 0}
    (note,), task = drawn(client, alwayson_scripts={"controlnet": {"args": [unit]}})
    assert note.startswith("alwayson_scripts.controlnet.args[0]: guidance_end, control_mode not read")
    assert task.recipe.pose_guidance_scale == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"args": [True, "none", "model"]}, "alwayson_scripts.controlnet.args: must be a list of units"),
        ({"args": "x"}, "alwayson_scripts.controlnet.args: must be a list of units"),
        ({"args": [{}, {"image": "/etc/passwd"}]}, "alwayson_scripts.controlnet.args[1].image: is not base64"),
        ({"args": [{"image": "file:///etc/passwd"}]}, "alwayson_scripts.controlnet.args[0].image: addresses are not"),
        ({"args": [{"image": DRAWING, "weight": "1"}]}, "alwayson_scripts.controlnet.args[0].weight: must be a number"),
        ({"args": [{"image": DRAWING, "module": "canny"}]}, "module: 'canny' is not there"),
    ],
)
def test_a_unit_that_cannot_be_read_is_refused_by_its_place(client, value, words):
    answer = client.post("/sdapi/v1/txt2img", json=ASK | {"alwayson_scripts": {"controlnet": value}})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"].startswith(words)


def test_a_pose_or_mask_of_another_shape_is_told(client):
    pose = STANDING.fit(64, 64).to_json()
    unit = {"alwayson_scripts": {"controlnet": {"args": [{"pose": pose}]}}}
    assert drawn(client, **unit)[0] == []
    (note,), _ = drawn(client, **unit, height=32)
    assert note.startswith("pose: its canvas of 64 x 64 px has another shape than the image of 16 x 32")
    assert client.post("/v1/generate", json={"prompt": "a man", "pose_image": DRAWING}).json()["notes"] == []
    asked = {"prompt": "a man", "pose": pose, "image": IMAGE, "mask": "pose"}
    wide = {"image_pose": STANDING.fit(64, 32).to_json()}
    told = client.post("/v1/generate", json=asked | wide).json()["error"]["message"]
    assert told.startswith("image_pose: its canvas is 64 x 32 px and the image 16 x 16, another shape")
    note, task = drawn(client, "img2img", init_images=[IMAGE], mask=encoded(Image.new("L", (16, 16), 255)), mask_blur=4)
    assert note == ["mask_blur: not read; the mask is used as it is, and the whole image drawn with it"]
    assert task.mask is not None


def test_comparing_says_that_the_image_has_another_shape(client, monkeypatch):
    found = STANDING.fit(64, 32)
    monkeypatch.setattr(client.app.state.engine, "detect", lambda image, name="": found)
    ask = {"pose": STANDING.to_json(), "image": encoded(np.zeros((32, 64, 3), np.uint8))}
    (note,) = client.post("/v1/poses/compare", json=ask).json()["notes"]
    assert "another shape than the image of 64 x 32" in note
    ask["image"] = encoded(np.zeros((64, 64, 3), np.uint8))
    assert client.post("/v1/poses/compare", json=ask).json()["notes"] == []


def test_an_image_of_thousands_of_spots_is_no_drawing(client):
    colors = np.array(OPENPOSE18.limb_colors, np.uint8)
    draw = np.random.default_rng(0)
    spots = colors[draw.integers(0, len(colors), (100, 100))] * (draw.random((100, 100, 1)) < 0.3).astype(np.uint8)
    unit = {"image": encoded(spots.repeat(10, 0).repeat(10, 1))}
    told = refused(client, alwayson_scripts={"controlnet": {"args": [unit]}})
    assert "nobody was found in the image" in told


def test_what_an_image_says_of_itself_is_read_as_webui_does(client):
    made = client.post("/sdapi/v1/txt2img", json=ASK).json()["images"][0]
    told = client.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{made}"}).json()
    assert told["info"].startswith("a man\n")
    assert "Seed: 5" in told["info"]
    assert json.loads(told["items"]["humansd"])["seed"] == 5
    assert client.post("/sdapi/v1/png-info", json={"image": IMAGE}).json()["info"] == ""


def test_what_clients_ask_at_their_start_is_there(client):
    for name in ("upscalers", "loras", "sd-vae", "prompt-styles", "hypernetworks", "face-restorers", "extensions"):
        assert client.get(f"/sdapi/v1/{name}").json() == []
    assert "karras" in [one["name"] for one in client.get("/sdapi/v1/schedulers").json()]
    assert client.get("/controlnet/control_types").json()["control_types"]["OpenPose"]["default_option"] == "none"
    assert client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
    made = client.post("/controlnet/render_openpose_json", json=[STANDING.to_json()]).json()["images"]
    assert len(made) == 1
    told = client.get("/nothing").json()["detail"]
    assert told == "there is nothing at this address; GET /openapi.json lists what there is"


def test_one_image_is_edited_and_no_other_passed_over(client):
    png = base64.b64decode(IMAGE)
    form = {"prompt": "a man", "quality": "high"}
    one = client.post("/v1/images/edits", data=form, files={"image": ("a.png", png)})
    assert one.status_code == 200, one.text
    assert one.json()["notes"][0].startswith("quality: is not read")
    for files, words in (
        ([("image[]", ("a.png", png)), ("image[]", ("b.png", png))], "image: 2 are sent; send one image as a file"),
        ([("mask", ("a.png", png))], "image: is missing; send one image as a file"),
    ):
        told = client.post("/v1/images/edits", data=form, files=files)
        assert (told.status_code, told.json()["error"]["message"]) == (422, words)


def test_openais_wishes_that_are_not_read_are_told(client):
    ask = {"prompt": "a (red:1.2) man", "quality": "hd", "background": "transparent", "style": None, "user": "me"}
    notes = client.post("/v1/images/generations", json=ask).json()["notes"]
    assert [note.partition(":")[0] for note in notes] == ["quality", "background", "prompt"]
    assert refused(client, "/v1/images/generations", stream=True).startswith("steps: there is no such field")
    told = client.post("/v1/images/generations", json={"prompt": "a man", "stream": True}).json()["error"]["message"]
    assert told.startswith("stream: images come when they are done")
