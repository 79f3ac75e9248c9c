"""The studio's own API: images at once, jobs, batches, cancelling, room, a restart."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.pipelines.humansd import HumanSDPipeline
from studio_server import client_of, encoded, finished, limits, opened, pixels, settings_of, tiny_model
from tiny_pipeline import standing

POSE = standing().to_json()
ASK = {"prompt": "a man running in a park", "pose": POSE, "seed": 7}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model):
    with client_of(settings_of(model)) as client:
        yield client


def test_an_image_is_that_of_the_pipeline_and_says_how_it_was_made(client, model):
    answer = client.post("/v1/generate", json=ASK).json()
    own = HumanSDPipeline.from_pretrained(model)(ASK["prompt"], standing(), seed=7).images[0]
    image = opened(answer["data"][0]["b64_json"])
    assert np.array_equal(np.array(image), np.array(own))
    info = json.loads(image.text["humansd"])
    assert (info["prompt"], info["seed"], info["settings"]["num_inference_steps"]) == (ASK["prompt"], 7, 3)
    assert info["people"]["people"][0]["xy"] == POSE["people"][0]["xy"]
    assert "trainedAlgorithmicMedia" in image.text["XML:com.adobe.xmp"]
    assert "Seed: 7" in image.text["parameters"]


def test_the_guide_reads_what_an_image_says(client, tmp_path, monkeypatch, capsys):
    made = client.post("/v1/generate", json=ASK | {"response_format": "png"})
    (tmp_path / "image.png").write_bytes(made.content)
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "serve.md").read_text()
    (line,) = re.findall(r"```python\n([^`]*read_png_info\([^`]*)```", guide)
    monkeypatch.chdir(tmp_path)
    exec(compile(line, "serve.md", "exec"), {})
    assert capsys.readouterr().out.strip() == ASK["prompt"]


def test_pose_and_seed_change_the_image_and_no_pose_is_one_too(client):
    def made(**changes):
        return pixels(client.post("/v1/generate", json=ASK | changes).json()["data"][0]["b64_json"])

    plain = made()
    assert np.array_equal(plain, made())
    assert not np.array_equal(plain, made(seed=8))
    assert not np.array_equal(plain, made(pose=standing(shift=3).to_json()))
    assert not np.array_equal(plain, made(pose=None))


def test_joints_may_lie_outside_the_frame(client):
    away = standing(shift=9.0)
    assert (away.xy[..., 0] > 16).any()
    answer = client.post("/v1/generate", json=ASK | {"pose": away.to_json()})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["info"]["people"]["people"][0]["xy"] == away.to_json()["people"][0]["xy"]


def test_two_workers_share_the_queue(model):
    with client_of(settings_of(model, devices=("cpu", "cpu"), limits=limits(batch=1))) as client:
        engine = client.app.state.engine
        ids = [
            client.post("/v1/jobs", json=ASK | {"num_inference_steps": 60, "seed": i}).json()["id"] for i in range(4)
        ]
        most = 0
        while not all(client.get(f"/v1/jobs/{id}").json()["state"] == "done" for id in ids):
            most = max(most, engine.queue.running)
        assert most == 2


def test_images_of_one_request_have_seeds_that_follow_each_other(client):
    three = client.post("/v1/generate", json=ASK | {"n": 3}).json()["data"]
    assert [one["seed"] for one in three] == [7, 8, 9]
    alone = client.post("/v1/generate", json=ASK | {"seed": 9}).json()["data"][0]
    assert np.array_equal(pixels(three[2]["b64_json"]), pixels(alone["b64_json"]))


def test_a_batch_of_strangers_gives_each_its_own_image(model):
    asks = [
        ASK | {"seed": i, "prompt": prompt, "pose": standing(shift=i).to_json()}
        for i, prompt in enumerate(["a man", "two women", "a man dancing", "a park"])
    ]
    with client_of(settings_of(model)) as client:
        alone = [pixels(client.post("/v1/generate", json=ask).json()["data"][0]["b64_json"]) for ask in asks]
        engine = client.app.state.engine
        together: dict[int, np.ndarray] = {}

        def ask(i):
            answer = client.post("/v1/generate", json=asks[i]).json()
            together[i] = pixels(answer["data"][0]["b64_json"])

        before = engine.metrics.registry.get_sample_value("humansd_batch_size_count")
        slow = threading.Thread(target=lambda: client.post("/v1/generate", json=ASK | {"num_inference_steps": 100}))
        slow.start()
        while engine.queue.running == 0:
            time.sleep(0.005)
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in (slow, *threads):
            thread.join()
        batches = engine.metrics.registry.get_sample_value("humansd_batch_size_count") - before
    assert batches <= 3  # the slow one, and the four in one batch, or two where one came late
    for i in range(4):
        assert np.abs(together[i].astype(int) - alone[i]).max() <= 1


def test_a_job_has_progress_previews_a_result_and_is_gone_after_it_was_fetched(model):
    with client_of(settings_of(model, limits=limits(fetched_s=0.0))) as client:
        wanted = ASK | {"preview": True, "num_inference_steps": 12}
        made = client.post("/v1/jobs", json=wanted)
        id = made.json()["id"]
        assert made.status_code == 202
        assert made.headers["location"] == f"/v1/jobs/{id}"
        with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            lines = [line for line in stream.iter_lines() if line]
        names = [line[7:] for line in lines if line.startswith("event: ")]
        assert names[-1] == "end"
        assert json.loads(lines[-1][6:])["state"] == "done"
        result = client.get(f"/v1/jobs/{id}/result")
        now = client.post("/v1/generate", json=wanted).json()
        assert np.array_equal(*(pixels(one["data"][0]["b64_json"]) for one in (result.json(), now)))
        client.app.state.engine.store.sweep(3600, 0.0)
        assert client.get(f"/v1/jobs/{id}").status_code == 404


def test_a_job_is_cancelled_and_deleted(client):
    id = client.post("/v1/jobs", json=ASK | {"num_inference_steps": 150, "n": 4}).json()["id"]
    assert client.get(f"/v1/jobs/{id}/result").status_code == 409
    assert client.delete(f"/v1/jobs/{id}").status_code == 204
    assert client.get(f"/v1/jobs/{id}").status_code == 404
    assert client.post("/v1/generate", json=ASK).status_code == 200  # the worker goes on


def test_without_room_a_client_is_told_when_to_ask_again(model):
    with client_of(settings_of(model, limits=limits(queue=8, queue_per_key=3), shutdown_s=0.0)) as client:
        long = ASK | {"num_inference_steps": 150, "n": 3}
        assert client.post("/v1/jobs", json=long).status_code == 202
        refused = client.post("/v1/jobs", json=long)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "3 images of yours" in refused.json()["error"]["message"]
        assert "humansd_rejected_total 1.0" in client.get("/metrics").text
        assert client.post("/v1/generate", json=ASK).status_code == 429
        assert client.post("/sdapi/v1/txt2img", json={"prompt": "a man"}).status_code == 429
        assert "humansd_rejected_total 3.0" in client.get("/metrics").text


def test_more_images_than_there_ever_is_room_for_are_refused_for_good(model):
    with client_of(settings_of(model, limits=limits(queue=3, queue_per_key=3))) as client:
        assert client.get("/v1/studio").json()["limits"]["count"] == 3
        for path, body, words in (
            ("/v1/jobs", ASK | {"n": 4}, "n: 4 is more than this server takes, 3 at most"),
            ("/v1/images/generations", {"prompt": "a man", "n": 4}, "n: 4 is more than this server takes, 3 at most"),
            ("/sdapi/v1/txt2img", {"prompt": "a man", "batch_size": 2, "n_iter": 2}, "batch_size times n_iter: 4 is"),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 400, answer.text
            assert "retry-after" not in answer.headers
            assert words in answer.json()["error"]["message"]
        assert client.post("/v1/generate", json=ASK | {"n": 3}).status_code == 200


def test_the_position_of_a_job_is_the_number_of_images_before_it(model):
    with client_of(settings_of(model, limits=limits(batch=1), shutdown_s=0.0)) as client:
        ids = []
        for n in (2, 1, 1):
            told = client.post("/v1/jobs", json=ASK | {"num_inference_steps": 40, "n": n}).json()
            assert told["position"] in ((0,) if not ids else (sum((2, 1)[: len(ids)]),))
            ids.append(told["id"])
        seen = {id: [] for id in ids}
        while any(one[-1:] != [None] for one in seen.values()):
            for id in ids:
                seen[id].append(client.get(f"/v1/jobs/{id}").json()["position"])
            time.sleep(0.01)
        assert [list(dict.fromkeys(seen[id])) for id in ids] == [[0, None], [2, 1, 0, None], [3, 2, 1, 0, None]]


def test_who_follows_a_waiting_job_is_told_that_it_moves_up(model):
    with client_of(settings_of(model, limits=limits(batch=1), shutdown_s=0.0)) as client:
        wanted = ASK | {"num_inference_steps": 30}
        ids = [client.post("/v1/jobs", json=wanted | {"n": n}).json()["id"] for n in (3, 1)]
        with client.stream("GET", f"/v1/jobs/{ids[1]}/events") as stream:
            told = [json.loads(line[6:])["position"] for line in stream.iter_lines() if line.startswith("data: ")]
        assert list(dict.fromkeys(told)) == [3, 2, 1, 0, None]


def test_accepted_jobs_are_drawn_after_a_restart(model, tmp_path):
    settings = settings_of(model, state=str(tmp_path / "state"), shutdown_s=0.0)
    with client_of(settings) as client:
        ids = [
            client.post("/v1/jobs", json=ASK | {"num_inference_steps": 150, "seed": i}).json()["id"] for i in range(3)
        ]
    with client_of(settings) as client:
        assert [finished(client, id)["state"] for id in ids] == ["done"] * 3
        answer = client.get(f"/v1/jobs/{ids[2]}/result").json()
        assert answer["data"][0]["seed"] == 2


def test_images_begin_with_one_and_change_in_a_mask_alone(client):
    begin = np.full((16, 16, 3), 200, np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    ask = ASK | {"image": encoded(begin), "mask": encoded(mask)}
    made = pixels(client.post("/v1/generate", json=ask).json()["data"][0]["b64_json"])
    assert np.abs(made[:, :8].astype(int) - 200).max() <= 1
    assert np.abs(made[:, 8:].astype(int) - 200).max() > 10
    moved = ASK | {"image": encoded(begin), "mask": "pose", "image_pose": standing(shift=4).to_json()}
    assert client.post("/v1/generate", json=moved).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"prompt": " "}, 400, "prompt: is empty"),
        ({"model": "other"}, 404, "model 'other'"),
        ({"n": 17}, 400, "n: 17 is more"),
        ({"num_inference_steps": 151}, 400, "num_inference_steps: 151"),
        ({"width": 17}, 422, "width is 17 px; it must be a multiple of 2"),
        ({"width": 4096, "height": 4096}, 400, "more than this server draws"),
        ({"pose": {"people": []}}, 422, "canvas_width: is missing"),
        ({"pose": {"canvas_width": 9, "canvas_height": 9, "people": []}}, 400, "nobody in it has a joint"),
        ({"image": "http://127.0.0.1/x.png"}, 400, "addresses are not opened"),
        ({"image": "/etc/passwd"}, 400, "image: "),
        ({"strength": 0.5}, 400, "belong to an image"),
        ({"scheduler": "no"}, 400, "scheduler: 'no' is not known"),
        ({"guidance_scale": 1e9}, 422, "guidance_scale"),
        ({"stepz": 3}, 422, "stepz"),
    ],
)
def test_what_cannot_be_served_is_told_with_the_field(client, changes, status, words):
    answer = client.post("/v1/generate", json=ASK | changes)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_the_service_says_that_it_is_well_and_counts(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200
    client.post("/v1/generate", json=ASK)
    text = client.get("/metrics").text
    assert 'humansd_images_total{model="tiny"}' in text
    assert 'humansd_requests_total{route="/v1/generate",status="200"}' in text
    assert client.get("/v1/models").json()["data"][0]["defaults"]["width"] == 16
