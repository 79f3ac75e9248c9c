"""Weights of words in a model that draws: what the pipeline is given by the studio is what `humansd generate` gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")
pytest.importorskip("compel", reason="compel is not installed")

from studio_server import client_of, pixels, settings_of, tiny_model

ASK = {"seed": 5, "negative_prompt": "blue"}


def test_weights_change_the_image_alone_and_in_a_batch(tmp_path):
    with client_of(settings_of(tiny_model(tmp_path / "tiny"))) as client:

        def made(prompt, **more):
            answer = client.post("/v1/generate", json=ASK | {"prompt": prompt} | more)
            assert answer.status_code == 200, answer.text
            assert answer.json()["notes"] == []
            return [pixels(one["b64_json"]) for one in answer.json()["data"]]

        (plain,), (one,), (more,) = made("a man"), made("a (man:1.0)"), made("a (man:1.6)")
        assert np.array_equal(plain, one)
        assert not np.array_equal(plain, more)
        assert np.abs(made("a (man:1.6)", n=2)[0].astype(int) - more).max() <= 1
        assert not np.array_equal(made("a man", negative_prompt="(blue:1.6)")[0], plain)
        webui = {"prompt": "a (man:1.6)", "negative_prompt": "blue", "seed": 5, "width": 16, "height": 16}
        answer = client.post("/sdapi/v1/txt2img", json=webui).json()
        assert np.array_equal(pixels(answer["images"][0]), more)
        assert json.loads(answer["info"])["notes"] == []
