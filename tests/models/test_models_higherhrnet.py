"""HigherHRNet: published sizes and key names, shapes, gradients, loading."""

import pytest
import torch
from safetensors.torch import save_file

from humansd.models.higherhrnet import CONFIGS, HigherHRNet, load_published, published_name

PUBLISHED_MILLIONS = {"w32": 28.6, "w48": 63.8}  # HigherHRNet, table 1


@pytest.fixture(scope="module")
def pocket():
    torch.manual_seed(0)
    return HigherHRNet(CONFIGS["pocket"]).eval()


@pytest.mark.parametrize("size", sorted(PUBLISHED_MILLIONS))
def test_published_sizes_run_and_have_the_published_parameter_count(size):
    network = HigherHRNet(CONFIGS[size]).eval()
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == PUBLISHED_MILLIONS[size]
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 128, 160) * 2 - 1)
    assert maps.quarter.shape == maps.tags.shape == (1, 17, 32, 40)
    assert maps.half.shape == (1, 17, 64, 80)


def published_keys(width: int) -> dict[str, tuple[int, ...]]:
    """Weight names and shapes of the published `pose_higher_hrnet` at some places of every kind."""
    return {
        "conv1.weight": (64, 3, 3, 3),
        "bn2.running_var": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.3.conv3.weight": (256, 64, 1, 1),
        "transition1.0.0.weight": (width, 256, 3, 3),
        "transition1.1.0.0.weight": (2 * width, 256, 3, 3),
        "stage2.0.branches.1.3.bn2.weight": (2 * width,),
        "stage2.0.fuse_layers.0.1.0.weight": (width, 2 * width, 1, 1),
        "stage2.0.fuse_layers.1.0.0.0.weight": (2 * width, width, 3, 3),
        "transition2.2.0.0.weight": (4 * width, 2 * width, 3, 3),
        "stage3.3.fuse_layers.2.0.0.0.weight": (width, width, 3, 3),
        "stage3.3.fuse_layers.2.0.1.0.weight": (4 * width, width, 3, 3),
        "transition3.3.0.1.bias": (8 * width,),
        "stage4.2.branches.3.3.conv2.weight": (8 * width, 8 * width, 3, 3),
        "stage4.2.fuse_layers.0.3.1.running_mean": (width,),
        "final_layers.0.weight": (34, width, 1, 1),
        "final_layers.1.bias": (17,),
        "deconv_layers.0.0.0.weight": (width + 34, width, 4, 4),
        "deconv_layers.0.0.1.weight": (width,),
        "deconv_layers.0.4.0.conv2.weight": (width, width, 3, 3),
    }


@pytest.mark.parametrize("size", ["w32", "w48"])
def test_key_names_are_the_published_ones(size):
    state = HigherHRNet(CONFIGS[size]).state_dict()
    for name, shape in published_keys(CONFIGS[size].width).items():
        assert tuple(state[name].shape) == shape, name
    assert not [key for key in state if "stage4.2.fuse_layers.1" in key]  # the last module gives one branch


@pytest.mark.parametrize("prefix", ["", "module.", "mmpose"])
def test_a_checkpoint_with_published_names_loads_with_no_key_missing_or_left_over(prefix):
    torch.manual_seed(1)
    source = HigherHRNet(CONFIGS["w32"])

    def renamed(key: str) -> str:
        head = key.startswith(("final_layers", "deconv_layers"))
        return f"{'keypoint_head.' if head else 'backbone.'}{key}" if prefix == "mmpose" else prefix + key

    state = {renamed(key): tensor for key, tensor in source.state_dict().items()}
    loaded = load_published(HigherHRNet(CONFIGS["w32"]), state, "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), loaded.state_dict().values()))
    assert published_name("backbone.stage2.0.branches.0.0.conv1.weight") == "stage2.0.branches.0.0.conv1.weight"


def test_weights_of_another_size_are_refused(pocket):
    state = HigherHRNet(CONFIGS["w32"]).state_dict()
    with pytest.raises(ValueError, match=r"file\.pth: not the weights of this HigherHRNet: .* left over .* another"):
        load_published(pocket, state, "file.pth")
    with pytest.raises(ValueError, match=r"1 missing \(conv1\.weight\)"):
        load_published(pocket, {k: v for k, v in pocket.state_dict().items() if k != "conv1.weight"}, "file")


def test_what_is_saved_comes_back(pocket, tmp_path):
    pocket.save_pretrained(tmp_path)
    again = HigherHRNet.from_pretrained(tmp_path)
    assert again.config == pocket.config
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again.heatmaps(x), pocket.heatmaps(x))
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not the weights"):
        HigherHRNet.from_pretrained(tmp_path)


def test_heatmaps_carry_a_gradient_to_the_image(pocket):
    image = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    pocket.heatmaps(image)[0, 9, 16, 16].backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert image.grad.isfinite().all()


def test_an_image_does_not_depend_on_its_batch(pocket):
    x = torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        whole, alone = pocket.heatmaps(x)[1:2], pocket.heatmaps(x[1:2])
    assert torch.allclose(whole, alone, atol=1e-6 * alone.abs().max().item())
