"""What pictures are compared by: Inception as FID has it, the pocket tower, any vision model, and CLIP's similarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, ViTConfig, ViTImageProcessor, ViTModel

from humansd.atelier.render import make_sample
from humansd.metrics.distances import Moments, frechet_distance
from humansd.models.clip_similarity import ClipScorer
from humansd.models.convert import convert_inception
from humansd.models.features import load_extractor
from humansd.models.inception import BlockA, Inception, average_pool
from tiny_pipeline import CAPTIONS, tiny_clip

SAMPLES = [make_sample(880_001, index, 128) for index in range(24)]
PICTURES = [sample.image for sample in SAMPLES]


@pytest.fixture(scope="module")
def inception():
    torch.manual_seed(0)
    network = Inception().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("conv.weight"):
                torch.nn.init.kaiming_normal_(parameter)
    return network


def test_inception_is_as_large_as_the_published_one(inception):
    assert sum(p.numel() for p in inception.parameters()) == 21_785_568


def test_padding_does_not_count_in_an_average():
    x = torch.arange(16, dtype=torch.float32).reshape(1, 1, 4, 4)
    pooled = average_pool(x)[0, 0]
    for row in range(4):
        for column in range(4):
            there = x[0, 0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert pooled[row, column] == pytest.approx(there.mean().item())


def test_a_block_keeps_its_size_and_only_the_last_block_pools_a_maximum(inception):
    assert BlockA(8, 4)(torch.zeros(1, 8, 5, 5)).shape == (1, 64 + 64 + 96 + 4, 5, 5)
    assert not inception.Mixed_7b.maximum
    assert inception.Mixed_7c.maximum


def test_a_published_checkpoint_becomes_a_folder_of_the_same_features(inception, tmp_path):
    state = inception.state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "pt_inception.pth")
    convert_inception(tmp_path / "pt_inception.pth", tmp_path / "inception")
    extractor = load_extractor("inception", str(tmp_path / "inception"))
    assert (extractor.is_fid, extractor.width) == (True, 2048)
    pictures = [PICTURES[0], PICTURES[1][:64], PICTURES[2]]
    together = extractor.extract(pictures)
    with torch.no_grad():
        alone = inception(torch.from_numpy(PICTURES[2]).permute(2, 0, 1)[None].float() / 255)
    assert together[2] == pytest.approx(alone[0].numpy(), rel=1e-3, abs=1e-4)
    assert np.abs(together[0] - together[2]).max() > 1e-3


def test_a_checkpoint_with_a_strange_key_is_refused_by_name(inception, tmp_path):
    torch.save({**inception.state_dict(), "AuxLogits.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"1 left over \(AuxLogits\.weight\)"):
        convert_inception(tmp_path / "other.pth", tmp_path / "out")


def test_inception_without_weights_says_where_they_come_from():
    with pytest.raises(ValueError, match="humansd convert inception"):
        load_extractor("inception")
    with pytest.raises(ValueError, match="choose among pocket, inception, transformers"):
        load_extractor("resnet")
    with pytest.raises(ValueError, match="transformers=SOURCE"):
        load_extractor("transformers")


def test_pocket_features_depend_on_their_own_picture_alone():
    extractor = load_extractor("pocket")
    assert not extractor.is_fid
    whole = extractor.extract(PICTURES)
    assert whole.shape == (24, extractor.width)
    one_by_one = np.concatenate([extractor.extract([picture]) for picture in PICTURES[:4]])
    assert whole[:4] == pytest.approx(one_by_one, abs=1e-4)
    assert extractor.extract([]).shape == (0, extractor.width)


def test_pocket_features_tell_pictures_of_people_from_noise():
    extractor = load_extractor("pocket")
    noise = np.random.default_rng(0).integers(0, 256, (12, 128, 128, 3), np.uint8)
    first, second, other = (
        Moments.empty(extractor.width).update(extractor.extract(list(some)))
        for some in (PICTURES[:12], PICTURES[12:], noise)
    )
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, other) > 2 * frechet_distance(first, second)


def test_any_vision_model_of_transformers_extracts(tmp_path):
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
    )
    torch.manual_seed(0)
    ViTModel(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    extractor = load_extractor("transformers", str(tmp_path / "vit"))
    assert (extractor.name, extractor.width) == ("vit", 16)
    features = extractor.extract(PICTURES[:3])
    assert features[1] == pytest.approx(extractor.extract([PICTURES[1]])[0], abs=1e-5)
    assert np.isfinite(features).all()


def test_the_shipped_pair_likes_the_true_caption_better():
    scorer = ClipScorer.from_pretrained()
    captions = [sample.caption for sample in SAMPLES]
    true = scorer.scores(PICTURES, captions)
    other = scorer.scores(PICTURES, captions[1:] + captions[:1])
    assert (np.abs(true) <= 100).all()
    assert (true > other).mean() > 0.85


def test_similarity_does_not_depend_on_the_batch_and_is_100_cosines(tmp_path):
    from humansd.models.pocket import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, 560, max_length=12)
    model = tiny_clip(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    CLIPImageProcessor(size={"height": 16, "width": 16}, do_center_crop=False).save_pretrained(tmp_path)
    scorer = ClipScorer.from_pretrained(str(tmp_path))
    prompts = ["a man running", "two women dancing", "a park"]
    together = scorer.scores(PICTURES[:3], prompts)
    assert together[1] == pytest.approx(scorer.scores(PICTURES[1:2], prompts[1:2])[0], abs=1e-4)
    with pytest.warns(UserWarning, match="longer than 12 tokens and cut: 'a man"):
        scorer.scores(PICTURES[:1], ["a man running in a park with two women dancing at night in the rain"])
    with pytest.raises(ValueError, match="2 pictures and 1 prompts"):
        scorer.scores(PICTURES[:2], ["a man"])
