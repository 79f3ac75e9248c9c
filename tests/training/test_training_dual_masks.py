"""Person masks as the small model: a SegFormer that learns them, and the secondary adapter that learns from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from humansd.data.augment import Augmentation, augment_mask
from humansd.data.image_cache import find_image_cache, to_unit
from humansd.inference.pretrained import load_pipeline
from humansd.losses.dual_adapter import best_points, least_loss, masks_distance
from humansd.methods.table import find_method
from humansd.models.segmenter import TWO_LABELS, Segmenter, person_labels, pocket_segmenter
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.maps import person_mask
from humansd.reproduce.adapter_limit import adapter_limit
from humansd.synthetic.pairs import write_pairs
from humansd.training.checkpoint import checkpoints
from humansd.training.loop import train
from humansd.training.presets import DUAL_POCKET
from humansd.training.run import run_preset
from humansd.training.tasks.dual_adapter import DualAdapterTask
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings
from humansd.training.tasks.segmenter import SegmenterTask, intersection_over_union
from humansd.training.tasks.segmenter_settings import SegmenterSettings
from tiny_pipeline import FACTOR, tiny_components

SIDE, MODEL_SIDE = 64, 32  # px of the images, and of those that the model is made for
SMALL = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 32,
    "drop_path_rate": 0.0,
    "classifier_dropout_prob": 0.0,
    "initializer_range": 0.1,
}
QUICK = {"mixed_precision": "no", "device": "cpu", "report_to": "none", "loaders": 0, "log_every": 1}
pytestmark = pytest.mark.filterwarnings("ignore:the prompt is longer")


def small_segmenter(input_px: int, seed: int = 0, **labels) -> Segmenter:
    torch.manual_seed(seed)
    return Segmenter(
        SegformerForSemanticSegmentation(SegformerConfig(**SMALL, **(labels or TWO_LABELS))), input_px=input_px
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """pairs: shards with person masks. base: a plain model with an adapter of masks. eye: an untrained SegFormer."""
    folder = tmp_path_factory.mktemp("masks")
    parts = tiny_components(widened=False)
    parts["unet"].register_to_config(sample_size=MODEL_SIDE // FACTOR)
    torch.manual_seed(3)
    made = find_method("t2i-adapter-masks").build(parts["unet"], parts["vae"])
    with torch.no_grad():
        for value in made.pose_network.parameters():
            value.add_(0.05 * torch.randn_like(value))
    pipe = HumanSDPipeline(**parts, pose_network=made.pose_network, method="t2i-adapter-masks")
    pipe.save_pretrained(folder / "base")
    eye = small_segmenter(MODEL_SIDE)
    with torch.no_grad():
        eye.network.decode_head.classifier.weight.normal_(std=0.5)  # so that it sees something
    eye.eval().save_pretrained(folder / "eye")
    write_pairs(folder / "pairs", 4, size=SIDE, seed=3, workers=1, progress=False)
    return folder


def over(place: Path) -> dict[str, str]:
    given = {"data": "pairs", "base_model": "base"}
    return {name: str(place / folder) for name, folder in given.items()} | {"estimator": f"segformer={place / 'eye'}"}


def settings(place: Path, **changes) -> DualAdapterSettings:
    quick = {"steps": 2, "batch_size": 2, "lr_warmup_steps": 1, "learning_rate": 1e-3, "explode_factor": 0.0}
    quick |= {"ddim_steps": 3, "sampled_steps": 1, "log_images_minutes": 0.0, "image_size": MODEL_SIDE, **QUICK}
    masks = {"method": "t2i-adapter-masks", "mask": "own"}
    return DualAdapterSettings(**{**quick, **masks, **over(place), **changes})


def task(place: Path, **changes) -> DualAdapterTask:
    made = DualAdapterTask(settings(place, **changes))
    made.prepare(torch.device("cpu"))
    return made


def test_the_label_of_people_is_found_in_id2label_and_one_without_is_refused(place, tmp_path):
    ade = {0: "wall", 1: "building", 12: "person, individual, someone", 13: "door"}
    assert person_labels(ade, "x") == [12]
    assert person_labels({0: "road", 11: "person", 12: "rider"}, "x") == [11, 12]
    clothes = {0: "Background", 1: "Hat", 2: "Hair", 3: "Sunglasses", 4: "Personal-bag"}
    small_segmenter(MODEL_SIDE).save_pretrained(tmp_path / "clothes")
    path = tmp_path / "clothes" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"id2label": clothes, "label2id": {v: k for k, v in clothes.items()}}))
    wanted = r"none of its labels is a person \(Background, Hat, Hair, Sunglasses, \.\.\.\); .*pocket-segmenter"
    with pytest.raises(ValueError, match=wanted):
        run_preset("dual-adapter-masks-pocket", over(place) | {"estimator": f"segformer={path.parent}"}, dry_run=True)
    path.write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="is of the kind 'vit', not a SegFormer"):
        run_preset("dual-adapter-masks-pocket", over(place) | {"estimator": f"segformer={path.parent}"}, dry_run=True)
    with pytest.raises(FileNotFoundError, match=r"there is no .*config\.json; make one with"):
        DualAdapterTask(settings(place, estimator=f"segformer={tmp_path / 'none'}"))
    with pytest.raises(ValueError, match="its weights do not ship; make one with `humansd train pocket-segmenter`"):
        run_preset("dual-adapter-masks-pocket", over(place) | {"estimator": "segformer"}, tmp_path / "run")


def test_the_map_is_the_share_of_the_labels_that_are_people():
    labels = {"id2label": {0: "road", 1: "person", 2: "rider"}, "label2id": {"road": 0, "person": 1, "rider": 2}}
    eye = small_segmenter(0, **labels).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (eye.mean, eye.std))
    logits = eye.network(pixel_values=((images + 1) / 2 - mean) / std).logits
    assert torch.allclose(eye.masks(images), logits.softmax(dim=1)[:, 1:].sum(dim=1), atol=1e-6)
    assert sum(value.numel() for value in pocket_segmenter().parameters()) < 1_000_000


def test_a_mask_goes_where_its_image_goes():
    rng, still = np.random.default_rng(0), Augmentation(still=0, light=0, grey=0, swap_channels=0, blur=0, noise=0)
    y, x = np.mgrid[:64, :64]
    mask = (x - 24) ** 2 + (y - 36) ** 2 < 150
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    for _ in range(10):
        # Outside may come in as white as the person; there the mask is empty.
        changed, moved = augment_mask(image, mask, rng, dataclasses.replace(still, coarse=0))
        assert (changed[moved] > 100).mean() > 0.99
        assert 40 < moved.sum() < 1000


def test_the_segmenter_learns_who_is_there_and_its_export_is_a_transformers_folder(place, tmp_path):
    small_segmenter(SIDE).save_pretrained(tmp_path / "start")
    given = {"data": str(place / "pairs"), "init": str(tmp_path / "start"), "changes": "mild", **QUICK}
    quick = {"steps": 30, "batch_size": 8, "learning_rate": 5e-3, "lr_warmup_steps": 5, "cooldown_steps": 15}
    train(SegmenterTask(SegmenterSettings(**given, **quick, ema_decay=0.8)), tmp_path / "run")
    cache = find_image_cache(place / "pairs")
    images, masks = to_unit(cache.images), torch.from_numpy(np.stack([cache.mask(row) for row in range(len(cache))]))

    def iou(folder: Path) -> float:
        with torch.no_grad():
            odds = Segmenter.from_pretrained(str(folder))(images)[:, None]
        found = torch.nn.functional.interpolate(odds, size=(SIDE, SIDE), mode="bilinear", align_corners=False) > 0
        return float(intersection_over_union(found[:, 0], masks))

    everybody = float(masks.float().mean())
    learnt = iou(tmp_path / "run" / "export")
    assert learnt > max(iou(tmp_path / "start"), everybody) + 0.25, (learnt, everybody)
    again = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "run" / "export")
    assert again.config.id2label[1] == "person"
    assert json.loads((tmp_path / "run" / "export" / "preprocessor_config.json").read_text())["size"]["height"] == SIDE
    blank = dataclasses.replace(cache, masked=(False,) * len(cache))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("humansd.training.tasks.segmenter.find_image_cache", lambda *_: blank)
        with pytest.raises(ValueError, match="no sample carries a person mask; Atelier's do"):
            SegmenterTask(SegmenterSettings(**given))


def test_what_should_be_seen_is_the_own_mask_or_that_of_the_key_points(place):
    own, drawn = task(place), task(place, mask="skeleton")
    one = own.quintuples.draw(own.settings.seed, 0)
    batch = own.load(range(1))
    assert batch["wanted"].shape == (2, 1, MODEL_SIDE // 4, MODEL_SIDE // 4)
    for side, row in enumerate(one.rows):
        mask = own.image_cache.mask(row).astype(np.float32)
        small = mask.reshape(MODEL_SIDE // 4, 4, MODEL_SIDE // 4, 4).mean(axis=(1, 3))
        assert np.allclose(batch["wanted"][side, 0], small, atol=1e-6)
    person = person_mask(one.first, (MODEL_SIDE, MODEL_SIDE)) > 0
    found = drawn.load(range(1))["wanted"][0, 0]
    assert float(found.mean()) == pytest.approx(person.mean(), abs=0.02)
    assert not torch.equal(found, batch["wanted"][0, 0])


def test_the_terms_have_the_known_answer_at_the_best_mask(place):
    made = task(place)
    wanted, weights = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(3, 1, 1)
    b = best_points(wanted[1], wanted[0], made.strength)
    noise = torch.zeros(3, 3, 4, 4)
    loss, told = made.terms(wanted[0], b, weights, wanted, (noise, noise, torch.tensor(0.5)))
    theory = masks_distance(wanted[0], wanted[1], weights).mean()
    assert float(loss) == pytest.approx(float(least_loss(theory, made.strength)), rel=1e-4)
    assert told["theory"] == pytest.approx(float(theory))
    assert (told["theory"] - float(loss)) / told["theory"] == pytest.approx(1 / (made.strength + 1), rel=1e-2)


def test_the_loss_is_what_the_segmenter_sees_and_its_gradients_reach_the_secondary_alone(place):
    made = task(place)
    batch = {**made.load(range(2)), "steps": [2]}
    loss, told = made.loss(batch)
    loss.backward()
    assert sum(float(value.grad.abs().sum()) for value in made.secondary.parameters()) > 0
    others = [made.primary, made.inner.unet, made.inner.vae, made.inner.text_encoder, made.sight.network]
    assert all(value.grad is None and not value.requires_grad for one in others for value in one.parameters())
    assert told["theory"] == pytest.approx(float(masks_distance(*batch["wanted"], torch.ones(2, 1, 1)).mean()))
    told_of_masks = loss.item()
    with torch.no_grad():
        made.sight.network.network.decode_head.classifier.bias[1] += 50  # it sees people everywhere
        everywhere = made.loss(batch)[1]
    wanted = masks_distance(torch.ones_like(batch["wanted"][1]), batch["wanted"][1], torch.ones(2, 1, 1)).mean()
    assert everywhere["to_target"] == pytest.approx(float(wanted), rel=1e-3)
    assert everywhere["held"] == pytest.approx(0, abs=1e-6)
    assert told_of_masks != pytest.approx(made.strength * float(wanted), rel=1e-2)


def test_a_run_with_masks_that_was_stopped_ends_as_one_that_was_not(place, tmp_path):
    once = train(task(place), tmp_path / "once")
    train(task(place, steps=1), tmp_path / "twice")
    train(task(place), tmp_path / "twice")
    assert once.step == 2
    ends = [load_file(checkpoints(tmp_path / name)[-1] / "model.safetensors") for name in ("once", "twice")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    start = load_file(place / "base" / "pose_network" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(start[name], ends[0][name]) for name in start)
    exported = load_pipeline(str(tmp_path / "once" / "export"), "cpu")
    assert (exported.method.name, exported.style.kind) == ("dual-adapter", "masks")


def test_the_limit_of_a_trained_adapter_is_told_of_masks_too(place, monkeypatch):
    base, few = str(place / "base"), dataclasses.replace(DUAL_POCKET, ddim_steps=3, sampled_steps=1)
    monkeypatch.setattr("humansd.reproduce.adapter_limit.DUAL_POCKET", few)
    told = adapter_limit(base, base, str(place / "pairs"), pairs=2, batch_size=2, estimator=over(place)["estimator"])
    assert 0 < told["theory"] < 1
    assert told["ratio"] == pytest.approx(told["loss"] / told["least"])
    assert 0 < told["estimator_noise"] < 1


def test_a_dry_run_without_data_needs_no_weights_and_idle_settings_are_named(place):
    asked = over(place) | {"estimator": "segformer"}
    with pytest.raises(ValueError, match="estimator = 'segformer': its weights do not ship"):
        run_preset("dual-adapter-masks-pocket", asked, dry_run=True)
    del asked["data"]
    told = json.loads(run_preset("dual-adapter-masks-pocket", asked, dry_run=True))
    assert told["loss"]["Q"] > 1
    assert told["loss"]["teacher_is_shown_px"] == 128
    assert told["memory"]["frozen_gb"]["estimator segformer"] > 0
    assert told["cost"]["hours_on_four_cards_of_24_gb"] >= 0
    known = json.loads(run_preset("pocket-segmenter", {"data": str(place / "pairs")}, dry_run=True))
    assert "0.3 M parameters learn" in known["memory"]["network"]
    with pytest.raises(ValueError, match="--set sharpness=3: has no effect, since person masks have no peaks"):
        run_preset("dual-adapter-masks-pocket", over(place) | {"sharpness": "3"}, dry_run=True)
    with pytest.raises(ValueError, match="--set mask=own: has no effect, since key points need none"):
        run_preset("dual-adapter-pocket", over(place) | {"mask": "own", "estimator": "pocket"}, dry_run=True)
