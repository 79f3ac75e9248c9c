"""Between images or prompts and what the UNet reads: the VAE's scaling and the text encoder, in one place.

Training, caching and sampling all go through these functions, so they cannot disagree about a factor.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer


def vae_scale_factor(vae: AutoencoderKL) -> int:
    """Pixels of an image per position of a latent, on each axis."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def encode_images(
    vae: AutoencoderKL,
    images: torch.Tensor,
    *,
    sample: bool = False,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Images (n, 3, H, W) in [-1, 1] -> scaled latents (n, c, H/f, W/f), `(z - shift) * scaling`.

    z is the posterior's mean; with `sample` it is drawn from the posterior. Computed in the VAE's dtype and on its
    device; of a VAE that rests elsewhere (diffusers' CPU offload) on that of `images`.
    """
    posterior = vae.encode(_for_vae(vae, images)).latent_dist
    latents = posterior.sample(generator) if sample else posterior.mode()
    return (latents - _shift(vae)) * vae.config.scaling_factor


def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents (n, c, h, w) -> images (n, 3, f h, f w), about [-1, 1] and not clipped; device and dtype as in
    `encode_images`."""
    latents = _for_vae(vae, latents)
    return vae.decode(latents / vae.config.scaling_factor + _shift(vae), return_dict=False)[0]


def encode_text(
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    prompts: Sequence[str],
    *,
    clip_skip: int | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Prompts -> (n, tokens, width), the last hidden state of the padded prompts, as in Stable Diffusion.

    A dropped text is the empty prompt. A prompt that is too long is cut, with a UserWarning that names the
    words that went lost.

    Args:
        clip_skip: so many of the last layers are left out; their output goes through the final norm.
        device: where to compute; the text encoder's own, unless diffusers' CPU offload moves it there and away.

    Raises:
        ValueError: a `clip_skip` that leaves no layer.
    """
    ids, used = token_ids(tokenizer, prompts, text_length(tokenizer, text_encoder))
    return encode_ids(text_encoder, ids, used, clip_skip=clip_skip, device=device)


def encode_ids(
    text_encoder: CLIPTextModel,
    ids: torch.Tensor,
    used: torch.Tensor,
    *,
    clip_skip: int | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """What `token_ids` gives of prompts, (n, tokens) each -> (n, tokens, width); the rest as in `encode_text`."""
    layers = text_encoder.config.num_hidden_layers
    if clip_skip is not None and not 0 <= clip_skip < layers:
        raise ValueError(f"clip_skip is {clip_skip}; this text encoder has {layers} layers, so use 0 to {layers - 1}")
    where = device or text_encoder.device
    mask = None
    if getattr(text_encoder.config, "use_attention_mask", False):
        mask = used.to(where)
    out = text_encoder(ids.to(where), attention_mask=mask, output_hidden_states=bool(clip_skip))
    if not clip_skip:
        return out[0]
    norm = getattr(text_encoder, "text_model", text_encoder).final_layer_norm
    return norm(out.hidden_states[-1 - clip_skip])


def text_length(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> int:
    """Tokens of a prompt, with its begin and end marks."""
    return int(min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings))


def token_ids(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (n, length), cut and padded, and which of them are no padding.

    Cut and padded here: a tokenizer that is asked to keeps that as its state, which threads would share.
    """
    ids = torch.full((len(prompts), length), tokenizer.pad_token_id, dtype=torch.long)
    used = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        words = tokenizer(prompt, verbose=False).input_ids
        if len(words) > length:
            lost = tokenizer.decode(words[length - 1 : -1]).strip()
            warnings.warn(
                f"the prompt is longer than the text encoder's {length} tokens; this part of it is ignored: {lost!r}",
                UserWarning,
                stacklevel=3,
            )
            words = [*words[: length - 1], words[-1]]
        ids[row, : len(words)] = torch.tensor(words)
        used[row, : len(words)] = 1
    return ids, used


def lost_words(tokenizer: CLIPTokenizer, prompt: str, length: int) -> str:
    """The end of `prompt` beyond `length` tokens (begin and end marks included); "" if all fits."""
    ids = tokenizer(prompt, verbose=False).input_ids
    return tokenizer.decode(ids[length - 1 : -1]).strip() if len(ids) > length else ""


def _for_vae(vae: AutoencoderKL, values: torch.Tensor) -> torch.Tensor:
    """`values` where and as precisely as the VAE computes. One that is offloaded fetches its weights to its inputs."""
    offloaded = hasattr(vae, "_hf_hook") or vae.device.type == "meta"
    return values.to(device=values.device if offloaded else vae.device, dtype=vae.dtype)


def _shift(vae: AutoencoderKL) -> float:
    return float(vae.config.shift_factor or 0.0)
