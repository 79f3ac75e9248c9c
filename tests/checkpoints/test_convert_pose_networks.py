"""ControlNets and T2I-Adapters under the names of their authors' files load and draw what diffusers' folders draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter
from safetensors.torch import load_file, save_file

from humansd.checkpoints import pose_networks
from humansd.checkpoints.original_format import SD1
from humansd.checkpoints.pose_networks import read_controlnet, read_t2i_adapter
from humansd.cli import main
from humansd.inference.pretrained import load_pipeline
from humansd.models.pocket import pocket_scheduler
from humansd.models.tokenizers import clip_tokenizer
from humansd.pipelines.plain import plain_pipeline
from tiny_ldm import TINY, TINY1, TINY2, tiny_components
from tiny_pipeline import standing

# cldm's names (ControlNet, cldm/cldm.py), written down by hand: (name, shape). c: channels, t: width of the time
# embedding, w: width of the text.
RES = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")


def norm(name: str, c: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (c,), f"{name}.bias": (c,)}


def conv(name: str, c: int, out: int, k: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, c, k, k), f"{name}.bias": (out,)}


def linear(name: str, c: int, out: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, c), **({f"{name}.bias": (out,)} if bias else {})}


def res(at: str, c: int, out: int, t: int) -> dict[str, tuple[int, ...]]:
    found = norm(f"{at}.in_layers.0", c) | conv(f"{at}.in_layers.2", c, out, 3) | linear(f"{at}.emb_layers.1", t, out)
    found |= norm(f"{at}.out_layers.0", out) | conv(f"{at}.out_layers.3", out, out, 3)
    return found | (conv(f"{at}.skip_connection", c, out, 1) if c != out else {})


def attention(at: str, c: int, w: int) -> dict[str, tuple[int, ...]]:
    found = norm(f"{at}.norm", c) | conv(f"{at}.proj_in", c, c, 1) | conv(f"{at}.proj_out", c, c, 1)
    inner = f"{at}.transformer_blocks.0"
    for name, width in (("attn1", c), ("attn2", w)):
        found |= linear(f"{inner}.{name}.to_q", c, c, bias=False) | linear(f"{inner}.{name}.to_out.0", c, c)
        found |= linear(f"{inner}.{name}.to_k", width, c, bias=False) | linear(
            f"{inner}.{name}.to_v", width, c, bias=False
        )
    found |= linear(f"{inner}.ff.net.0.proj", c, 8 * c) | linear(f"{inner}.ff.net.2", 4 * c, c)
    for number in (1, 2, 3):
        found |= norm(f"{inner}.norm{number}", c)
    return found


def control_names(channels: tuple[int, ...], w: int) -> dict[str, tuple[int, ...]]:
    c, t = channels[0], 4 * channels[0]
    found = linear("time_embed.0", c, t) | linear("time_embed.2", t, t) | conv("input_blocks.0.0", 4, c, 3)
    hints = [(3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, c)]
    for number, (a, b) in enumerate(hints):
        found |= conv(f"input_hint_block.{2 * number}", a, b, 3)
    number, now, skips = 1, c, [c]
    for level, width in enumerate(channels):
        for _ in range(2):
            found |= res(f"input_blocks.{number}.0", now, width, t)
            if level < 3:
                found |= attention(f"input_blocks.{number}.1", width, w)
            now, number = width, number + 1
            skips.append(width)
        if level < 3:
            found |= conv(f"input_blocks.{number}.0.op", width, width, 3)
            number += 1
            skips.append(width)
    for skip, width in enumerate(skips):
        found |= conv(f"zero_convs.{skip}.0", width, width, 1)
    found |= (
        res("middle_block.0", now, now, t) | attention("middle_block.1", now, w) | res("middle_block.2", now, now, t)
    )
    return found | conv("middle_block_out.0", now, now, 1)


def adapter_names(channels: tuple[int, ...], blocks: int = 2, unshuffle: int = 8) -> dict[str, tuple[int, ...]]:
    """TencentARC's Adapter with sk=True, ksize=1 (ldm/modules/encoders/adapter.py)."""
    found = conv("conv_in", 3 * unshuffle**2, channels[0], 3)
    now = channels[0]
    for number in range(blocks * len(channels)):
        width = channels[number // blocks]
        if width != now:
            found |= conv(f"body.{number}.in_conv", now, width, 1)
        found |= conv(f"body.{number}.block1", width, width, 3) | conv(f"body.{number}.block2", width, width, 1)
        now = width
    return found


def filled(names: dict[str, tuple[int, ...]], begin: str = "") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {begin + name: 0.2 * torch.randn(shape, generator=generator) for name, shape in names.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pose-networks")
    parts = tiny_components(TINY1)
    plain = plain_pipeline(parts.vae, parts.text_encoder, clip_tokenizer("sd1"), parts.unet, pocket_scheduler())
    plain.save_pretrained(folder / "base")
    channels = TINY1.unet["block_out_channels"]
    control = filled(control_names(channels, TINY1.unet["cross_attention_dim"]), "control_model.")
    beside = {"model.diffusion_model.out.0.weight": torch.zeros(8), "betas": torch.zeros(3)}
    torch.save({"state_dict": control | beside}, folder / "control.pth")
    save_file(control, folder / "control.safetensors")
    torch.save(filled(adapter_names(channels)), folder / "adapter.pth")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(pose_networks.READERS, "controlnet", lambda file: read_controlnet(file, TINY))


def drawn(place: Path, method: str, network: Path | str, **pose) -> np.ndarray:
    pipe = load_pipeline(str(place / "base"), "cpu", method=method, pose_network=str(network))
    options = {"seed": 1, "num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "np"}
    return pipe("a man", standing((64, 64), **pose), **options).images


@pytest.mark.parametrize(("method", "file"), [("controlnet", "control.pth"), ("t2i-adapter", "adapter.pth")])
def test_a_published_file_draws_as_its_folder_does_and_looks_at_the_pose(place, tmp_path, capsys, method, file):
    image = drawn(place, method, place / file)
    assert np.abs(image - drawn(place, method, place / file, shift=16.0)).max() > 1e-3
    assert main(["convert", method, str(place / file), "--out", str(tmp_path / "network")]) == 0
    assert f"--method {method} --pose-network" in capsys.readouterr().out
    assert np.abs(image - drawn(place, method, tmp_path / "network")).max() < 1e-5
    kind = ControlNetModel if method == "controlnet" else T2IAdapter
    assert kind.from_pretrained(tmp_path / "network").config._class_name == kind.__name__


def test_every_weight_goes_where_it_belongs(place):
    network = read_controlnet(place / "control.safetensors", TINY)
    theirs = filled(control_names(TINY1.unet["block_out_channels"], TINY1.unet["cross_attention_dim"]))
    pairs = {
        "controlnet_down_blocks.11.weight": "zero_convs.11.0.weight",
        "controlnet_mid_block.bias": "middle_block_out.0.bias",
        "controlnet_cond_embedding.blocks.5.weight": "input_hint_block.12.weight",
        "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
        "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_v.weight": (
            "input_blocks.8.1.transformer_blocks.0.attn2.to_v.weight"
        ),
        "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
        "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
    }
    own = network.state_dict()
    for ours, name in pairs.items():
        assert torch.equal(own.get(ours, torch.zeros(0)), theirs.get(name, torch.ones(0))), ours
    assert len({weight.data_ptr() for weight in own.values()}) == len(theirs)
    adapter = read_t2i_adapter(place / "adapter.pth").state_dict()
    given = filled(adapter_names(TINY1.unet["block_out_channels"]))
    assert torch.equal(adapter["adapter.body.2.in_conv.weight"], given["body.4.in_conv.weight"])
    assert torch.equal(adapter["adapter.body.3.resnets.1.block1.bias"], given["body.7.block1.bias"])


def test_published_names_and_sizes_are_those_of_the_networks(tmp_path, monkeypatch):
    """All of a real file's names, without its weights; the counts are the published ones."""
    width = SD1.unet["cross_attention_dim"]
    for read, names, count in (
        (read_controlnet, control_names((320, 640, 1280, 1280), width), 361_279_120),
        (read_t2i_adapter, adapter_names((320, 640, 1280, 1280)), 77_369_280),
    ):
        with torch.device("meta"):
            state = {name: torch.empty(shape) for name, shape in names.items()}
        monkeypatch.setattr(pose_networks, "read_single_file", lambda _, state=state: dict(state))
        network = read(tmp_path / "published.pth")
        assert sum(one.numel() for one in network.parameters()) == count
        assert len(network.state_dict()) == len(names)


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("controlnet", {"control_model.zero_convs.3.0.weight": None}, "has no weight for controlnet_down_blocks.3"),
        ("controlnet", {"control_model.input_hint_block.0.weight": None}, "no ControlNet"),
        ("controlnet", {"control_model.more": torch.zeros(1)}, "another network"),
        ("controlnet", {"control_model.time_embed.0.weight": torch.zeros(3, 3)}, "of another shape"),
        ("t2i-adapter", {"conv_in.weight": None}, "no full T2I-Adapter"),
        ("t2i-adapter", {"body.1.block2.weight": None}, "1 missing"),
        ("t2i-adapter", {"body.1.block1.weight": None}, "7 whole blocks"),
        ("t2i-adapter", {"body.0.skep.weight": torch.zeros(1)}, "1 left over"),
    ],
)
def test_what_is_no_such_network_is_refused_by_name(place, tmp_path, capsys, method, change, words):
    source = "control.pth" if method == "controlnet" else "adapter.pth"
    state = torch.load(place / source, weights_only=True)
    state = {**state.get("state_dict", state), **change}
    torch.save({key: weight for key, weight in state.items() if weight is not None}, tmp_path / "odd.pth")
    assert main(["convert", method, str(tmp_path / "odd.pth"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "odd.pth" in said


@pytest.mark.parametrize("method", ["controlnet", "t2i-adapter"])
def test_a_file_taken_out_of_its_folder_draws_as_the_folder_does(place, tmp_path, method):
    source = place / ("control.pth" if method == "controlnet" else "adapter.pth")
    network = pose_networks.read_pose_network(source, method)
    network.save_pretrained(tmp_path)
    network.half().save_pretrained(tmp_path / "half", variant="fp16")  # of which a folder may hold that alone
    image = drawn(place, method, tmp_path)
    assert np.abs(image - drawn(place, method, tmp_path / "diffusion_pytorch_model.safetensors")).max() < 1e-5
    torch.save(load_file(tmp_path / "diffusion_pytorch_model.safetensors"), tmp_path / "model.bin")
    assert np.abs(image - drawn(place, method, tmp_path / "model.bin")).max() < 1e-5
    assert np.abs(image - drawn(place, method, tmp_path / "half")).max() < 0.1


def test_files_and_folders_of_adapters_mix_and_serve_every_method_of_adapters(place, tmp_path):
    file = place / "adapter.pth"
    read_t2i_adapter(file).save_pretrained(tmp_path / "folder")
    image = drawn(place, "t2i-adapter", file)
    assert np.array_equal(image, drawn(place, "dual-adapter", file))
    mixed = drawn(place, "t2i-adapter", f"{file}=0.25,{tmp_path / 'folder'}=0.75")
    assert np.abs(image - mixed).max() < 1e-4
    assert np.abs(image - drawn(place, "t2i-adapter", f"{file}=0.5")).max() > 1e-4


ADAPTER = {"channels": [8, 8, 16, 16], "num_res_blocks": 1, "downscale_factor": 8, "adapter_type": "full_adapter"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_channels": 1}, "in_channels is 1, not 3"),
        ({"channels": [8, 16, 16, 16]}, r"channels is \[8, 16, 16, 16\], not \[8, 8, 16, 16\]"),
        ({"adapter_type": "full_adapter_xl", "downscale_factor": 16}, "adapter_type is full_adapter_xl"),
        ({"adapter_type": "light_adapter", "channels": [8, 8, 16, 16]}, r"channels is \[8, 8, 16, 16, 16\]"),
        ({"adapter_type": "light_adapter", "channels": [8, 8, 16]}, ""),
    ],
)
def test_an_adapter_of_another_base_is_refused_before_it_draws(place, tmp_path, change, words):
    torch.manual_seed(0)
    T2IAdapter(**{**ADAPTER, **change}).save_pretrained(tmp_path)
    if not words:
        assert np.isfinite(drawn(place, "t2i-adapter", tmp_path)).all()
        return
    for name in (tmp_path, f"{tmp_path}=0.5"):
        with pytest.raises(ValueError, match=f"pose_network: a T2I-Adapter of another base .*{words}"):
            drawn(place, "t2i-adapter", name)


def test_a_controlnet_of_another_base_is_refused_before_it_draws(place, tmp_path):
    torch.manual_seed(0)
    sd2 = tiny_components(TINY2).unet
    ControlNetModel.from_unet(sd2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"a ControlNet of another base .*cross_attention_dim is 16, not 12"):
        drawn(place, "controlnet", tmp_path)


def test_what_is_named_as_a_pose_network_and_is_none_is_told_with_the_remedy(place, tmp_path):
    network = read_controlnet(place / "control.pth", TINY)
    network.save_pretrained(tmp_path / "pipeline" / "controlnet")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a whole pipeline; name the folder of its part, .*pipeline/controlnet"):
        drawn(place, "controlnet", tmp_path / "pipeline")
    network.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(ValueError, match=r"pickled: its weights are pickled \(.*\.bin\).*safe_serialization=True"):
        drawn(place, "controlnet", tmp_path / "pickled")
    with pytest.raises(ValueError, match="it is a ControlNetModel, name a T2IAdapter"):
        drawn(place, "t2i-adapter", tmp_path / "pipeline" / "controlnet")
    with pytest.raises(ValueError, match=r"nowhere\.pth: is no folder"):
        drawn(place, "controlnet", tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match=r"no method is named; .*--method controlnet"):
        drawn(place, "", place / "control.pth")


def test_a_base_that_has_half_precision_alone_is_read_and_a_file_is_no_model(place, tmp_path):
    parts = tiny_components(TINY1)
    plain = plain_pipeline(parts.vae, parts.text_encoder, clip_tokenizer("sd1"), parts.unet, pocket_scheduler())
    plain.to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    pipe = load_pipeline(str(tmp_path / "half"), "cpu", method="sd")
    whole = load_pipeline(str(place / "base"), "cpu", method="sd")
    assert pipe.unet.dtype == torch.float32
    assert torch.allclose(pipe.unet.conv_in.weight, whole.unet.conv_in.weight, atol=1e-3)
    with pytest.raises(ValueError, match=r"control\.pth': a file, .*humansd convert checkpoint"):
        load_pipeline(str(place / "control.pth"), "cpu")


def test_a_method_without_published_files_says_so(place):
    with pytest.raises(ValueError, match=r"takes no pose_network|its weights are part of a model"):
        load_pipeline(str(place / "base"), "cpu", method="gligen", pose_network=str(place / "control.pth"))


@pytest.mark.parametrize("method", ["controlnet", "t2i-adapter"])
def test_a_network_that_cannot_be_fetched_is_not_told_as_a_fault_of_the_base(place, method, monkeypatch):
    monkeypatch.setattr("humansd.models.loading.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("humansd.models.loading.hub_answers", lambda: False)
    with pytest.raises(ValueError, match=r"^pose_network 'nobody/nothing': .* does not answer"):
        load_pipeline(str(place / "base"), "cpu", method=method, pose_network="nobody/nothing")
