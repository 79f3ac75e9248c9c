"""Faults of images beside a COCO file are named from their headers, before a network is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from humansd.cli import main
from humansd.evaluation.coco_images import check_coco_images
from humansd.pose import PoseError


def coco(folder: Path, **second: Any) -> Path:
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(2)]
    images[1] |= second
    for i in range(2):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / f"{i}.png")
    notes = [{"id": 1, "image_id": 0, "category_id": 1, "keypoints": [9, 9, 2] * 17, "bbox": []}]
    file = folder / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": notes}))
    return file


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"file_name": "no.png"}, r"images: 1 of 2 images are not in .*; the first: no\.png\. .*--images"),
        (
            {"width": 65},
            r"images: 1 of 2 images have another size .*; the first: 1\.png has 64 x 48 px",
        ),
    ],
)
def test_a_missing_and_a_wrong_sized_image_are_named(tmp_path: Path, second: dict[str, Any], says: str) -> None:
    with pytest.raises(PoseError, match=says):
        check_coco_images(coco(tmp_path, **second), tmp_path)


def test_what_fits_passes_and_a_limit_looks_no_further(tmp_path: Path) -> None:
    check_coco_images(coco(tmp_path), tmp_path)
    check_coco_images(coco(tmp_path, width=48, height=64), tmp_path)  # a photograph on its side
    check_coco_images(coco(tmp_path, width=9), tmp_path, limit=1)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(PoseError, match=r"1\.png: "):
        check_coco_images(tmp_path / "a.json", tmp_path)


def test_the_command_answers_before_it_loads_an_estimator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr("humansd.models.estimators.load_estimator", lambda *a: loaded.append(a))
    file = coco(tmp_path, width=65)
    assert main(["pose", "score", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "Name their folder: --images" in capsys.readouterr().err
    assert main(["pose", "score", str(file), "--images", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "1.png has 64 x 48 px and not 65 x 48" in capsys.readouterr().err
    assert not loaded
