"""Two replicas of Ray Serve behind one studio."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")
pytest.importorskip("ray.serve", reason="Ray Serve is not installed: humansd[studio-ray]")

from ray import serve

from studio_server import client_of, encoded, pixels, settings_of, tiny_model  # behind the check
from tiny_pipeline import standing

ASK = {"prompt": "a man running in a park", "pose": standing().to_json(), "seed": 7}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, object_store_memory=80 * 2**20)
    yield ray
    serve.shutdown()
    ray.shutdown()


def test_two_replicas_draw_what_one_process_draws(model, cluster):
    with client_of(settings_of(model)) as client:
        alone = [
            pixels(client.post("/v1/generate", json=ASK | {"seed": i}).json()["data"][0]["b64_json"]) for i in (7, 8)
        ]
    with client_of(settings_of(model, ray=2)) as client:
        assert len(client.app.state.engine.workers) == 2
        assert client.get("/v1/models").json()["data"][0]["methods"] == ["humansd"]
        made: dict[int, np.ndarray] = {}

        def ask(seed):
            answer = client.post("/v1/generate", json=ASK | {"seed": seed})
            made[seed] = pixels(answer.json()["data"][0]["b64_json"])

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in (7, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, expected in zip((7, 8), alone, strict=True):
            assert np.abs(made[seed].astype(int) - expected).max() <= 1
        id = client.post("/v1/jobs", json=ASK | {"num_inference_steps": 20}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
            names = [line[7:] for line in stream.iter_lines() if line.startswith("event: ")]
        assert names.count("progress") > 1
        assert names[-1] == "end"
        bad = ASK | {"image": encoded(np.zeros((16, 16, 3), np.uint8)), "strength": 0.1}
        assert client.post("/v1/generate", json=bad).status_code == 422
