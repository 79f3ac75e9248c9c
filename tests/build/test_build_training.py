"""Images of any shape, imported and trained on: cut to the model's size with their people, never stretched, no bars."""

from __future__ import annotations

import json

import numpy as np
import pytest

from build_makers import image_bytes, standing
from humansd.build.importing import ImportOptions, import_dataset
from humansd.data.crop import cut_sample, people_window, window_for
from humansd.data.image_cache import find_image_cache
from humansd.data.sample import Sample
from humansd.pose.people import People


def at(canvas, *points):
    """People of one joint each, the nose, at these places."""
    xy = np.zeros((len(points), 17, 2))
    seen = np.zeros((len(points), 17), int)
    xy[:, 0], seen[:, 0] = points, 2
    return People.of(xy, canvas, visibility=seen)


def test_a_window_holds_most_joints_where_it_cannot_hold_all():
    people = at((300, 100), (5, 50), (290, 40), (280, 60), (295, 50))
    assert window_for(people, (64, 64)).way == "centre"
    window = people_window(people, (64, 64))
    assert (window.way, window.left, window.width, window.height) == ("most", 196, 100, 100)
    kept = cut_sample(sample_of(people), (50, 50))
    assert kept.people.n == 3
    assert kept.image.shape == (50, 50, 3)


def sample_of(people, mask=None):
    width, height = people.canvas
    ramp = np.stack([np.tile(np.arange(width) % 256, (height, 1))] * 3, axis=2).astype(np.uint8)
    extras = {} if mask is None else {"mask": mask}
    return Sample("a", ramp, "x", people, "", "", "", extras)


def test_image_people_and_mask_are_cut_alike():
    people = at((200, 100), (30, 50), (60, 20), (190, 10))
    mask = np.zeros((100, 200), np.uint8)
    for number, (x, y) in enumerate(((30, 50), (60, 20), (190, 10)), start=1):
        mask[y - 5 : y + 6, x - 5 : x + 6] = number
    cut = cut_sample(sample_of(people, mask), (50, 50))
    assert cut.people.n == 2
    for number, (x, y) in enumerate(cut.people.xy[:, 0], start=1):
        assert cut.extras["mask"][round(y), round(x)] == number
        original = people.xy[number - 1, 0, 0]
        assert abs(int(cut.image[round(y), round(x), 0]) - original) <= 2  # the ramp says where a column came from
    assert set(np.unique(cut.extras["mask"])) == {0, 1, 2}


@pytest.fixture
def photographs(tmp_path):
    """Six images of three shapes in COCO's form, imported."""
    images, notes, texts = [], [], []
    for n, size in enumerate([(40, 60), (60, 40), (48, 48)] * 2):
        (tmp_path / f"{n}.jpg").write_bytes(image_bytes(n, size))
        images.append({"id": n, "file_name": f"{n}.jpg", "width": size[0], "height": size[1]})
        flat = np.concatenate([standing(size).xy[0], np.full((17, 1), 2)], axis=1).reshape(-1).tolist()
        notes.append({"id": n, "image_id": n, "category_id": 1, "keypoints": flat})
        texts.append({"image_id": n, "caption": f"a man running in a park, {n}"})
    (tmp_path / "person_keypoints.json").write_text(json.dumps({"images": images, "annotations": notes}))
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))
    import_dataset(tmp_path, tmp_path / "shards", ImportOptions(shortest=8), progress=False)
    return tmp_path / "shards"


def test_shapes_that_differ_are_cut_to_the_size_that_is_asked_for_or_the_models(photographs):
    with pytest.raises(ValueError, match="--set image_size=512"):
        find_image_cache(photographs)
    assert find_image_cache(photographs, 16).images.shape == (6, 16, 16, 3)
    cache = find_image_cache(photographs, 0, 32)
    assert cache.images.shape == (6, 32, 32, 3)
    assert cache.folder.name == "pack-32"
    assert all(people.canvas == (32, 32) and people.labelled.any() for people in cache.people)
    with pytest.raises(ValueError, match="is a pack of 32 px"):
        find_image_cache(cache.folder, 16)


def test_a_real_model_takes_a_step_on_imported_images(photographs, tmp_path):
    import torch

    from humansd.pipelines.humansd import HumanSDPipeline
    from humansd.training.settings import DiffusionSettings
    from humansd.training.tasks.diffusion import DiffusionTask
    from tiny_pipeline import SIZE, tiny_components

    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "model")
    settings = DiffusionSettings(
        data=str(photographs), base_model=str(tmp_path / "model"), method="humansd", batch_size=2
    )
    task = DiffusionTask(settings)
    assert task.image_cache.size == SIZE
    task.prepare(torch.device("cpu"))
    loss, _ = task.loss(task.load(range(2)))
    before = task.unet.conv_in.weight.detach().clone()
    loss.backward()
    torch.optim.SGD(task.module.parameters(), 0.1).step()
    assert torch.isfinite(loss)
    assert not torch.equal(task.unet.conv_in.weight, before)
