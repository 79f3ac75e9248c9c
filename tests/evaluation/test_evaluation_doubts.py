"""An evaluation whose numbers mean nothing says so above them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from humansd.evaluation.doubts import compared, doubted, doubts
from humansd.models.clip_similarity import ClipScorer
from humansd.pose.formats import read_poses
from humansd.synthetic.render import make_sample


def results(ceiling: float | None, text: dict | None) -> dict:
    return {
        "groups": {"all": {"ceiling": {"ap": ceiling}}},
        "settings": {"estimator": {"name": "centernet"}},
        "text_check": text,
    }


def test_a_low_ceiling_and_words_that_are_not_told_apart_are_said() -> None:
    alike = {"true": 68.0, "shuffled": 67.9, "gain": 0.1, "error": 0.2, "images": 42}
    told = doubts(results(0.09, alike))
    assert "centernet reaches an AP of 9.0 on the real images" in told[0]
    assert "--estimator movenet" in told[0]
    assert "own captions 42 images have 68.0, with those of others 67.9" in told[1]
    few = results(0.09, None)
    few["settings"]["data"] = {"name": "val", "samples": 4}
    assert "4 images may be too few to say, take more; or name an estimator" in doubts(few)[0]
    assert doubted(results(0.09, alike)) >= {"ap", "cap", "pce", "clipsim"}
    assert doubted(results(0.09, None)) == {"ap", "ap_small", "ap_medium", "ap_large", "cap", "pce"}
    assert doubts(results(0.5, {**alike, "gain": 9.0})) == []
    assert doubts(results(None, None)) == []
    assert not doubted(results(0.5, None))


@pytest.fixture(scope="module")
def scorer() -> ClipScorer:
    return ClipScorer.from_pretrained()


def test_the_shipped_clip_knows_renders_and_not_noise(scorer: ClipScorer) -> None:
    samples = [make_sample(5, number, size=128) for number in range(12)]
    images, captions = [one.image for one in samples], [one.caption for one in samples]
    known = compared(images, captions, scorer)
    assert known is not None
    assert known["gain"] > 2 * known["error"]
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (128, 128, 3), dtype=np.uint8) for _ in samples]
    unknown = compared(noise, captions, scorer)
    assert unknown is not None
    assert unknown["gain"] <= 2 * unknown["error"]
    assert compared(images[:2], ["a man"] * 2, scorer) is None


def test_an_area_of_nothing_is_an_unknown_one(tmp_path: Path) -> None:
    points = [[10 + 3 * joint, 20 + 5 * (joint % 7), 2] for joint in range(17)]
    note = {"id": 1, "image_id": 1, "category_id": 1, "area": 0, "keypoints": [v for point in points for v in point]}
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}
    file = {"images": [image], "annotations": [note], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "a.json").write_text(json.dumps(file))
    people = next(iter(read_poses(tmp_path / "a.json").values()))
    assert np.isnan(people.area[0])
    assert people.areas()[0] == 48 * 30
