"""What images are compared by: Inception-v3 as FID has it, the pocket tower, any vision model of transformers."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

import humansd.checkpoints.convert as convert
import humansd.models.features as features_module
from humansd.checkpoints.convert import convert_inception
from humansd.metrics.distances import Moments, frechet_distance
from humansd.models.features import EXTRACTORS, SHIPPED, load_extractor
from humansd.models.inception import Inception, average_pool
from humansd.models.letterbox import letterbox, squeeze
from tiny_pipeline import tiny_clip

RNG = np.random.default_rng(0)
SHAPES = ((64, 64), (40, 90), (64, 64), (3, 17), (1, 1))
IMAGES = [RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def pattern(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 2, y * 3, x * y // 8], axis=2).astype(np.uint8)


# -- Inception-v3 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    """A network whose weights are numbers from a formula, so that another implementation can have them too."""
    network = Inception()
    state = network.state_dict()
    for number, key in enumerate(sorted(key for key in state if not key.endswith("num_batches_tracked"))):
        tensor = state[key]
        places = torch.arange(tensor.numel(), dtype=torch.float64)
        values = (torch.sin(places * 12.9898 + number) * 43758.5453).frac().reshape(tensor.shape)
        if key.endswith("conv.weight"):
            values = values * (6 / tensor[0].numel()) ** 0.5
        elif key.endswith(("running_var", "bn.weight")):
            values = 1 + values / 4
        else:
            values = values / 10
        state[key] = values.float()
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def checkpoint(published, tmp_path_factory):
    """As pytorch-fid's file is built: all weights, and a last layer of 1008 classes."""
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(published.state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, file)
    return file


@pytest.fixture(scope="module")
def converted(checkpoint):
    with pytest.warns(UserWarning, match=r"weights\.pth: not the published pt_inception-2015-12-05-6726825d\.pth"):
        convert_inception(checkpoint, checkpoint.parent / "out")
    return checkpoint.parent / "out"


def test_inception_has_the_published_number_of_parameters(published):
    assert sum(p.numel() for p in published.parameters()) == 21_785_568


def test_inception_gives_the_numbers_of_pytorch_fid(converted):
    """Known answers: pytorch-fid 0.3.0 on torchvision's network with the weights of the formula above."""
    places = [0, 321, 800, 1500, 1892, 1894]  # of all branches of the last block
    first, second = [0.6691, 0.2170, 0.0914, 0.1173, 1.1286, 1.0149], [0.7172, 0.1565, 0.0661, 0.1200, 1.2194, 1.1075]
    found = load_extractor("inception", str(converted)).extract([pattern(96, 128), pattern(320, 300)])
    assert found[:, places] == pytest.approx(np.array([first, second]), abs=1e-4)
    assert found.mean(axis=1) == pytest.approx([0.11597916, 0.11598384], abs=1e-6)


def test_padding_does_not_count_in_an_average():
    x = torch.randn(2, 3, 4, 5)
    pooled = average_pool(x)
    for row in range(4):
        for column in range(5):
            there = x[:, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert torch.allclose(pooled[:, :, row, column], there.mean(dim=(2, 3)), atol=1e-6)


def test_a_published_checkpoint_is_kept_key_for_key_but_for_its_last_layer(published, checkpoint, converted):
    assert sorted(path.name for path in converted.iterdir()) == ["config.json", "model.safetensors"]
    kept, given = load_file(converted / "model.safetensors"), torch.load(checkpoint, weights_only=True)
    assert given.keys() - kept.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, given[key]) for key, tensor in kept.items())


def test_only_the_published_file_may_be_called_fid(checkpoint, converted, tmp_path, monkeypatch):
    other = load_extractor("inception", str(converted))
    assert not other.is_fid
    assert not other.name.startswith("inception")  # the tables go by the name
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    monkeypatch.setattr(convert, "PUBLISHED_SHA256", digest)
    monkeypatch.setattr(features_module, "PUBLISHED_SHA256", digest)
    convert_inception(checkpoint, tmp_path / "out")
    extractor = load_extractor("inception", str(tmp_path / "out"))
    assert (extractor.name, extractor.is_fid, extractor.width) == ("inception-v3", True, 2048)


def test_checkpoints_of_other_networks_are_refused_by_key(published, tmp_path):
    file, state = tmp_path / "other.pth", published.state_dict()
    short = {key: tensor for key, tensor in state.items() if key != "Mixed_7c.branch_pool.conv.weight"}
    for content, reason in (
        ({**state, "AuxLogits.conv0.bn.bias": torch.zeros(1)}, r"1 left over \(AuxLogits\.conv0\.bn\.bias\)"),
        (short, r"1 missing \(Mixed_7c\.branch_pool\.conv\.weight\)"),
        ({**state, "fc.weight": torch.zeros(1000, 2048)}, r"fc\.weight is not of the shape \(1008, 2048\)"),
    ):
        torch.save(content, file)
        with pytest.raises(ValueError, match=rf"other\.pth: .*{reason}"):
            convert_inception(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inception_without_weights_says_where_they_come_from(tmp_path):
    with pytest.raises(ValueError, match=r"pt_inception-2015-12-05-6726825d\.pth, run `humansd convert inception"):
        load_extractor("inception")
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; download"):
        load_extractor("inception", str(tmp_path))


# -- every extractor -------------------------------------------------------------------------------------------------


def save_vit(folder):
    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=32, patch_size=16, **SMALL)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(EXTRACTORS))
def extractor(request, tmp_path_factory):
    source = ""
    if request.param == "inception":
        source = str(request.getfixturevalue("converted"))
    elif request.param == "transformers":
        source = str(save_vit(tmp_path_factory.mktemp("features") / "vit"))
    return load_extractor(request.param, source)


def test_features_do_not_depend_on_the_images_beside_them(extractor):
    together = extractor.extract(IMAGES)
    assert together.shape == (len(IMAGES), extractor.width)
    assert together.dtype == np.float32
    alone = np.concatenate([extractor.extract([image]) for image in IMAGES])
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert together == pytest.approx(extractor.extract(IMAGES[::-1])[::-1], rel=1e-4, abs=1e-5)
    assert np.abs(together[0] - together[2]).max() > 1e-3  # of one size, and other images


def test_no_image_gives_no_row_and_other_arrays_are_refused(extractor):
    assert extractor.extract([]).shape == (0, extractor.width)
    assert sum(p.numel() for network in extractor.networks for p in network.parameters()) > 0
    for wrong in (IMAGES[0][..., 0], IMAGES[0].astype(np.float32), IMAGES[0][..., :2], IMAGES[0][:0]):
        with pytest.raises(ValueError, match=r"image 1 is .*; uint8 RGB \(height, width, 3\) is needed"):
            extractor.extract([IMAGES[0], wrong])


def test_unknown_names_and_missing_sources_are_refused():
    with pytest.raises(ValueError, match="'resnet' are not known; choose among pocket, inception, transformers"):
        load_extractor("resnet")
    with pytest.raises(ValueError, match="transformers=SOURCE"):
        load_extractor("transformers")
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        load_extractor("pocket", device="nonsense")


# -- the pocket tower ------------------------------------------------------------------------------------------------


def test_pocket_features_are_the_pooled_hidden_state_and_never_fid():
    extractor = load_extractor("pocket")
    assert (extractor.name, extractor.is_fid, extractor.width) == ("pocket image tower", False, 192)
    again = load_extractor("pocket", str(SHIPPED / "clip"))
    assert np.array_equal(extractor.extract(IMAGES[:2]), again.extract(IMAGES[:2]))


def test_a_larger_copy_of_an_image_has_its_features():
    """Areas are averaged, so each pixel repeated is the same image."""
    extractor = load_extractor("pocket")
    image = pattern(128, 128)
    same = extractor.extract([image, image.repeat(3, 0).repeat(3, 1)])
    assert same[0] == pytest.approx(same[1], rel=1e-3, abs=1e-3)


def test_an_image_of_another_shape_is_made_square_without_bars():
    extractor = load_extractor("pocket")
    image = pattern(128, 128)
    wide, tall = image.repeat(2, 1), image.repeat(3, 0)
    square, *others = extractor.extract([image, wide, tall])
    for other in others:
        assert other == pytest.approx(square, rel=1e-3, abs=1e-3)


def test_squares_are_seen_as_a_letterbox_has_them():
    images = [pattern(side, side) for side in (16, 128, 200)]
    assert torch.equal(squeeze(images, 128), letterbox(images, 128))


def test_distances_of_pocket_features_grow_with_the_damage():
    extractor = load_extractor("pocket")
    rng = np.random.default_rng(1)
    images = [np.roll(pattern(128, 128), rng.integers(0, 128, 2), (0, 1)) for _ in range(12)]

    def moments(noise: float) -> Moments:
        made = [(one + rng.normal(0, noise, one.shape)).clip(0, 255).astype(np.uint8) for one in images]
        return Moments.empty(extractor.width).update(extractor.extract(made))

    clean = moments(0)
    distances = [frechet_distance(clean, moments(noise)) for noise in (0, 20, 80)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[2] > 2 * distances[1] > 0


def test_a_tower_that_is_not_of_this_package_is_refused(tmp_path):
    torch.manual_seed(0)
    tiny_clip(560).save_pretrained(tmp_path / "clip")
    CLIPImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False).save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"not in \[-1, 1\]; use transformers="):
        load_extractor("pocket", str(tmp_path))
    extractor = load_extractor("transformers", str(tmp_path / "clip"))
    assert (extractor.name, extractor.width) == ("transformers:clip", 16)


# -- any vision model ------------------------------------------------------------------------------------------------


def test_models_of_several_kinds_give_their_pooled_output(tmp_path):
    torch.manual_seed(0)
    crop = BitImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42})
    Dinov2Model(Dinov2Config(image_size=42, patch_size=14, mlp_ratio=1, **SMALL)).save_pretrained(tmp_path / "dino")
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 8, 8, 24], depths=[1] * 4)).save_pretrained(tmp_path / "convnext")
    for name, width in (("dino", 16), ("convnext", 24)):
        crop.save_pretrained(tmp_path / name)
        extractor = load_extractor("transformers", str(tmp_path / name))
        assert (extractor.name, extractor.is_fid, extractor.width) == (f"transformers:{name}", False, width)
        values = crop(images=[IMAGES[0]], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            theirs = extractor.networks[0](pixel_values=values).pooler_output
        assert extractor.extract([IMAGES[0]])[0] == pytest.approx(theirs[0].numpy(), abs=1e-5)


def test_a_pooler_that_was_never_stored_is_not_used(tmp_path):
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(image_size=32, patch_size=16, **SMALL)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    first, again = (load_extractor("transformers", str(tmp_path)).extract(IMAGES[:2]) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_model_that_masks_its_input_is_refused(tmp_path):
    ViTMAEModel(ViTMAEConfig(image_size=32, patch_size=8, **SMALL)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="gives other numbers each time"):
        load_extractor("transformers", str(tmp_path))


def test_sources_that_cannot_serve_are_named_in_one_line(tmp_path):
    vit = save_vit(tmp_path / "vit")
    state = load_file(vit / "model.safetensors")
    gone = next(key for key in state if "attention" in key)
    for name in ("lacking", "pickled", "unprepared"):
        shutil.copytree(vit, tmp_path / name)
    save_file(
        {k: v for k, v in state.items() if k != gone}, tmp_path / "lacking" / "model.safetensors", {"format": "pt"}
    )
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "unprepared" / "preprocessor_config.json").unlink()
    BertModel(BertConfig(vocab_size=9, **SMALL)).save_pretrained(tmp_path / "text")
    (tmp_path / "empty").mkdir()
    for name, kind, reason in (
        ("lacking", OSError, r"lacks 1 weights \(.*attention.*\)"),
        ("pickled", OSError, "cannot be loaded"),
        ("unprepared", OSError, "cannot be loaded .*preprocessor_config.json"),
        ("text", ValueError, "reads input_ids, not images"),
        ("empty", OSError, "cannot be loaded"),
        ("absent", FileNotFoundError, "is no folder and no hub id"),
    ):
        with pytest.raises(kind, match=rf"^features 'transformers': .*{name}.* {reason}") as caught:
            load_extractor("transformers", str(tmp_path / name))
        assert "\n" not in str(caught.value)
