"""The widened UNet, the pocket parts, and what codec makes of images and prompts."""

from __future__ import annotations

import warnings

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.models import codec, pocket
from humansd.models.widen import narrow_conv_in, widen_conv_in
from tiny_pipeline import CAPTIONS, CHANNELS, tiny_clip, tiny_unet, tiny_vae


def millions(model: torch.nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return pocket.train_tokenizer(CAPTIONS, 560, max_length=12)


# -- widening ------------------------------


@torch.no_grad()
def test_widened_unet_equals_base_for_any_skeleton():
    torch.manual_seed(0)
    base = tiny_unet().eval()
    wide = widen_conv_in(base, CHANNELS)
    noisy, text = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, 5, 16)
    want = base(noisy, 321, text).sample
    for skeleton in (torch.zeros(2, CHANNELS, 8, 8), 30 * torch.randn(2, CHANNELS, 8, 8)):
        got = wide(torch.cat([noisy, skeleton], 1), 321, text).sample
        assert (got - want).abs().max() <= 1e-6
    assert wide.config.in_channels == 2 * CHANNELS
    assert wide.conv_in.weight[:, CHANNELS:].abs().max() == 0
    assert base.config.in_channels == CHANNELS
    assert base.conv_in.weight.shape[1] == CHANNELS


def test_new_weights_learn_and_are_saved(tmp_path):
    torch.manual_seed(0)
    wide = widen_conv_in(tiny_unet(), 2)
    wide(torch.randn(1, CHANNELS + 2, 8, 8), 5, torch.randn(1, 5, 16)).sample.square().mean().backward()
    assert wide.conv_in.weight.grad[:, CHANNELS:].abs().max() > 0
    wide.save_pretrained(tmp_path)
    assert UNet2DConditionModel.from_pretrained(tmp_path).config.in_channels == CHANNELS + 2


def test_widening_keeps_dtype_mode_and_independence():
    base = tiny_unet().to(torch.bfloat16).train()
    wide = widen_conv_in(base, 1)
    assert wide.dtype == torch.bfloat16
    assert wide.training
    with torch.no_grad():
        wide.conv_out.weight.zero_()
    assert base.conv_out.weight.abs().max() > 0


def test_widening_by_nothing_is_refused():
    with pytest.raises(ValueError, match="extra_channels is 0"):
        widen_conv_in(tiny_unet(), 0)


def test_a_narrowed_unet_is_the_wide_one_where_the_rest_is_zero():
    wide = widen_conv_in(tiny_unet(), CHANNELS)
    torch.nn.init.normal_(wide.conv_in.weight)
    narrow = narrow_conv_in(wide, CHANNELS)
    assert narrow.config.in_channels == CHANNELS
    latent, text = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, 5, narrow.config.cross_attention_dim)
    with torch.no_grad():
        expected = wide(torch.cat([latent, torch.zeros_like(latent)], dim=1), 7, text).sample
        assert torch.allclose(narrow(latent, 7, text).sample, expected, atol=1e-5)
    for channels in (0, 2 * CHANNELS):
        with pytest.raises(ValueError, match="at least 1 stays and 1 goes"):
            narrow_conv_in(wide, channels)


# -- pocket parts ------------------------------


def test_pocket_sizes():
    unet, vae = pocket.pocket_unet(8), pocket.pocket_vae()
    assert 10 < millions(unet) < 12
    assert 3 < millions(vae) < 3.5
    assert {b.attn1.heads for b in unet.modules() if hasattr(b, "attn1")} == {4}
    assert not any("attentions.0" in name for name, _ in vae.named_parameters())
    assert codec.vae_scale_factor(vae) == 8
    assert unet.config.sample_size * 8 == vae.config.sample_size == pocket.IMAGE_SIZE


def test_pocket_scheduler_starts_at_the_noisiest_step():
    scheduler = pocket.pocket_scheduler()
    scheduler.set_timesteps(25)
    assert scheduler.timesteps[0] == 999
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(0.00466, abs=1e-4)  # Stable Diffusion's


def test_text_and_vision_model_equal_their_clip(tokenizer):
    torch.manual_seed(0)
    clip = tiny_clip(len(tokenizer)).eval()
    text, vision = pocket.text_model(clip), pocket.vision_model(clip)
    ids = tokenizer(["a man", "two women dancing"], padding="max_length", return_tensors="pt").input_ids
    image = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        hidden = text(ids)
        assert torch.equal(hidden.last_hidden_state, clip.text_model(ids).last_hidden_state)
        assert torch.equal(vision(image).image_embeds, clip.get_image_features(image).pooler_output)
    first_end = (ids == tokenizer.eos_token_id).int().argmax(1)
    assert torch.equal(hidden.pooler_output, hidden.last_hidden_state[torch.arange(2), first_end])
    with torch.no_grad():
        text.final_layer_norm.weight.zero_()
    assert clip.text_model.final_layer_norm.weight.abs().max() > 0


def test_text_model_survives_saving(tokenizer, tmp_path):
    model = pocket.text_model(tiny_clip(len(tokenizer))).eval()
    model.save_pretrained(tmp_path)
    again = CLIPTextModel.from_pretrained(tmp_path)
    ids = tokenizer("a man", return_tensors="pt").input_ids
    assert torch.allclose(model(ids).pooler_output, again(ids).pooler_output)
    assert again.config.eos_token_id == tokenizer.eos_token_id


# -- tokenizer ------------------------------


def test_tokenizer_learns_words_and_knows_every_byte(tokenizer):
    assert len(tokenizer("a man running").input_ids) == 5  # three words, two marks
    assert tokenizer("A MAN Running").input_ids == tokenizer("a man running").input_ids
    ids = tokenizer("zebra, café ★ 7").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "zebra,café★7"
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1


def test_tokenizer_is_deterministic_and_survives_saving(tokenizer, tmp_path):
    again = pocket.train_tokenizer(CAPTIONS, 560, max_length=12)
    assert again.get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    assert loaded.model_max_length == 12
    for text in ("two women dancing at night", "ÀÉ it's 12:30", ""):
        assert loaded(text).input_ids == tokenizer(text).input_ids
    padded = loaded("a man", padding="max_length").input_ids
    assert padded[4:] == [loaded.pad_token_id] * 8


def test_tokenizer_vocabulary_is_bounded(tokenizer):
    assert len(tokenizer) <= 560
    assert len(pocket.train_tokenizer(CAPTIONS, pocket.SMALLEST_VOCABULARY)) == pocket.SMALLEST_VOCABULARY
    with pytest.raises(ValueError, match="vocab_size is 100"):
        pocket.train_tokenizer(CAPTIONS, 100)
    with pytest.raises(ValueError, match="max_length is 2"):
        pocket.train_tokenizer(CAPTIONS, 600, max_length=2)


# -- codec ------------------------------


@torch.no_grad()
def test_latents_are_shifted_and_scaled_means():
    torch.manual_seed(0)
    vae = tiny_vae().eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mean = vae.encode(images).latent_dist.mean
    latents = codec.encode_images(vae, images)
    assert latents.shape == (2, CHANNELS, 8, 8)
    assert torch.allclose(latents, (mean - 0.1) * 0.7)
    assert torch.allclose(codec.decode_latents(vae, latents), vae.decode(mean).sample, atol=1e-5)


@torch.no_grad()
def test_sampled_latents_follow_their_generator():
    torch.manual_seed(0)
    vae, images = tiny_vae().eval(), torch.zeros(1, 3, 16, 16)
    draw = [
        codec.encode_images(vae, images, sample=True, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


@torch.no_grad()
def test_long_prompt_warns_with_the_lost_words(tokenizer):
    encoder = pocket.text_model(tiny_clip(len(tokenizer))).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = codec.encode_text(tokenizer, encoder, ["a man running in a park", ""])
    assert short.shape == (2, 12, 16)
    with pytest.warns(UserWarning, match="12 tokens.*'park at night'"):
        codec.encode_text(tokenizer, encoder, ["a man in a man in a man in a park at night"])
