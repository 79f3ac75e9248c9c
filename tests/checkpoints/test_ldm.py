"""Single-file checkpoints: names against diffusers' own converter, whole files there and back."""

from __future__ import annotations

import re

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from humansd.checkpoints.original_format import SD1, SD2, components_of, unet_names, vae_names
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.single_file import checkpoint_to_folder, folder_to_checkpoint
from tiny_ldm import TINY, TINY1, tiny_state


@pytest.mark.parametrize("layout", [SD1, SD2], ids=["SD1", "SD2"])
def test_full_size_names_are_those_that_diffusers_reads(layout):
    with init_empty_weights():
        unet, vae = UNet2DConditionModel(in_channels=8, **layout.unet), AutoencoderKL(**layout.vae)
    own = unet.state_dict()
    shapes = {name: own[key] for key, name in unet_names(unet).items()}
    assert len(set(shapes)) == len(unet.state_dict()) == 686
    read = convert_ldm_unet_checkpoint(dict(shapes), dict(unet.config) | {"class_embed_type": None})
    assert {k: v.shape for k, v in read.items()} == {k: v.shape for k, v in unet.state_dict().items()}
    names = vae_names(vae)
    assert len(set(names.values())) == len(vae.state_dict()) == 248
    own = vae.state_dict()
    stored = {name: own[key] for key, name in names.items()}
    read = convert_ldm_vae_checkpoint(stored, dict(vae.config))
    assert read.keys() == vae.state_dict().keys()


def test_known_names_of_published_files():
    with init_empty_weights():
        unet = UNet2DConditionModel(**SD1.unet)
        vae = AutoencoderKL(**SD1.vae)
    names, vae_side = unet_names(unet), vae_names(vae)
    at = "model.diffusion_model."
    assert names["up_blocks.0.upsamplers.0.conv.weight"] == at + "output_blocks.2.1.conv.weight"
    assert names["up_blocks.1.upsamplers.0.conv.weight"] == at + "output_blocks.5.2.conv.weight"
    assert names["down_blocks.0.downsamplers.0.conv.bias"] == at + "input_blocks.3.0.op.bias"
    assert names["mid_block.resnets.1.time_emb_proj.weight"] == at + "middle_block.2.emb_layers.1.weight"
    assert (
        vae_side["decoder.up_blocks.0.resnets.2.conv1.weight"] == "first_stage_model.decoder.up.3.block.2.conv1.weight"
    )
    assert (
        vae_side["encoder.mid_block.attentions.0.to_out.0.bias"] == "first_stage_model.encoder.mid.attn_1.proj_out.bias"
    )


@pytest.mark.parametrize("layout", TINY, ids=["SD1", "SD2"])
@pytest.mark.parametrize("channels", [4, 8])
def test_a_checkpoint_becomes_a_folder_and_the_same_checkpoint_again(layout, channels, tmp_path):
    state = tiny_state(layout, channels)
    extra = {"betas": torch.zeros(4), "first_stage_model.loss.logvar": torch.zeros(1)}
    save_file({k: v.contiguous() for k, v in (state | extra).items()}, tmp_path / "model.safetensors")
    kind = checkpoint_to_folder(
        tmp_path / "model.safetensors", tmp_path / "folder", layouts=TINY, kind="humansd" if channels == 8 else "auto"
    )
    assert kind.startswith("HumanSD" if channels == 8 else "Stable Diffusion of")
    folder_to_checkpoint(tmp_path / "folder", tmp_path / "back.safetensors", layouts=TINY)
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_the_folders_draw(tmp_path):
    for channels, kind in ((8, HumanSDPipeline), (4, StableDiffusionPipeline)):
        state = tiny_state(TINY1, channels)
        torch.save({"state_dict": state}, tmp_path / "model.ckpt")
        said = "humansd" if channels == 8 else "auto"
        checkpoint_to_folder(tmp_path / "model.ckpt", tmp_path / str(channels), layouts=TINY, kind=said)
        pipeline = kind.from_pretrained(tmp_path / str(channels))
        pipeline.set_progress_bar_config(disable=True)
        assert pipeline("a man", num_inference_steps=1).images[0].size == (64, 64)


def test_averaged_weights_are_read_under_their_own_names():
    state = tiny_state(TINY1)
    averaged = {
        "model_ema." + key.removeprefix("model.").replace(".", ""): weight + 1
        for key, weight in state.items()
        if key.startswith("model.diffusion_model.")
    }
    last, average = (components_of(state | averaged, "file", TINY1, ema=ema) for ema in (False, True))
    assert torch.equal(average.unet.conv_in.weight, last.unet.conv_in.weight + 1)
    assert torch.equal(average.vae.quant_conv.weight, last.vae.quant_conv.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.diffusion_model.out.2.bias"), r"model\.diffusion_model\.out\.2\.bias is missing"),
        (lambda s: s.update({"first_stage_model.more": torch.zeros(1)}), r"left over \(first_stage_model\.more\)"),
        (lambda s: s.update({"model.diffusion_model.out.2.bias": torch.zeros(9)}), r"conv_out\.bias .*\(9,\), not"),
        (lambda s: s.clear(), "give a checkpoint of Stable Diffusion"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(change, message, tmp_path):
    state = tiny_state(TINY1)
    change(state)
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + ".*" + message):
        checkpoint_to_folder(tmp_path / "m.safetensors", tmp_path / "out", layouts=TINY)


def test_other_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="prediction is 'x'"):
        checkpoint_to_folder(tmp_path / "m.safetensors", tmp_path / "out", prediction="x")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"broken\.safetensors: not a safetensors file"):
        checkpoint_to_folder(tmp_path / "broken.safetensors", tmp_path / "out")
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        folder_to_checkpoint(tmp_path, tmp_path / "m.safetensors")
