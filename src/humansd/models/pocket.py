"""The pocket model: Stable Diffusion's parts in their standard classes, small enough for a CPU.

One table (`VAE`, `UNET`, `CLIP_TEXT`, `CLIP_VISION`, `SCHEDULER`) fixes every size; the constructors below
build the parts with random weights. Images are 256 x 256 px, latents 8 x 32 x 32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

IMAGE_SIZE = 256
SEEN_SIZE = 128  # of the copies that the CLIP and the estimators see
MAX_TOKENS = 77  # tokens of a prompt, begin and end marks included
TEXT_WIDTH = 192
# Four, as in Stable Diffusion, left no room for the second axis of colour in a short training: pink became beige.
LATENT_CHANNELS = 8

# scaling_factor 1.0 means "not measured yet": training measures 1 / std of the latents and stores it here.
VAE: dict[str, Any] = {
    "sample_size": IMAGE_SIZE,
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (32, 64, 96, 128),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
    "force_upcast": False,
}

# attention_head_dim: the class reads this number as the count of heads, so 4 is 4 heads of 32 and 48
# channels.
UNET: dict[str, Any] = {
    "sample_size": IMAGE_SIZE // 8,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 128, 192),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}

CLIP_TEXT: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_TOKENS,
    "projection_dim": 128,
}

CLIP_VISION: dict[str, Any] = {
    "image_size": SEEN_SIZE,
    "patch_size": 16,
    "hidden_size": 192,
    "intermediate_size": 4 * 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "projection_dim": 128,
}

# "trailing" starts at the last training step, whose signal is almost nil, as the drawn noise is; "leading"
# would start 1000 / steps earlier, where the network expects a trace of the image (Lin et al. 2023,
# sec. 3.3).
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}

_BOS, _EOS, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_BYTES = sorted(ByteLevel.alphabet())
_LETTERS = [*_BYTES, *(byte + _WORD_END for byte in _BYTES)]  # every byte inside and at the end of a word
SMALLEST_VOCABULARY = len(_LETTERS) + 2  # with the begin and end marks


def pocket_vae(**changes: Any) -> AutoencoderKL:
    """An untrained autoencoder: images (n, 3, 8h, 8w) in [-1, 1] <-> latents (n, 8, h, w).

    `changes` override VAE.
    """
    return AutoencoderKL(**{**VAE, **changes})


def pocket_unet(in_channels: int = LATENT_CHANNELS, **changes: Any) -> UNet2DConditionModel:
    """An untrained UNet: (n, in_channels, h, w) and text (n, tokens, 192) -> (n, 8, h, w).

    `changes` override UNET.
    """
    return UNet2DConditionModel(in_channels=in_channels, **{**UNET, **changes})


def pocket_scheduler(**changes: Any) -> DDIMScheduler:
    """DDIM with Stable Diffusion's noise schedule and v-prediction. `changes` override SCHEDULER."""
    return DDIMScheduler(**{**SCHEDULER, **changes})


def pocket_clip(vocab_size: int, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> CLIPModel:
    """An untrained CLIP: text (n, <= 77) token ids and images (n, 3, 128, 128) -> embeddings (n, 128).

    The ids of the begin and end marks are the last two of the vocabulary, as `train_tokenizer` puts them; the
    pooled text is read at the first end mark, so the text config has to know its id.

    Args:
        vocab_size: `len(tokenizer)`.
        text, vision: changes to CLIP_TEXT and CLIP_VISION.
    """
    marks = {"bos_token_id": vocab_size - 2, "eos_token_id": vocab_size - 1, "pad_token_id": vocab_size - 1}
    text_config = {**CLIP_TEXT, "vocab_size": vocab_size, **marks, **(text or {})}
    vision_config = {**CLIP_VISION, **(vision or {})}
    return CLIPModel(
        CLIPConfig(
            text_config=text_config,
            vision_config=vision_config,
            projection_dim=text_config["projection_dim"],
        )
    )


def text_model(clip: CLIPModel) -> CLIPTextModel:
    """The pipeline's text encoder, a copy of the text half: (n, tokens) ids -> (n, tokens, width)."""
    model = CLIPTextModel(clip.config.text_config)
    model.load_state_dict(clip.text_model.state_dict())
    return model.to(device=clip.device, dtype=clip.dtype).train(clip.training)


def vision_model(clip: CLIPModel) -> CLIPVisionModelWithProjection:
    """A copy of the image half with its projection: (n, 3, h, w) -> `image_embeds` (n, projection)."""
    model = CLIPVisionModelWithProjection(clip.config.vision_config)
    model.vision_model.load_state_dict(clip.vision_model.state_dict())
    model.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    return model.to(device=clip.device, dtype=clip.dtype).train(clip.training)


def train_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int = MAX_TOKENS) -> CLIPTokenizer:
    """A CLIP tokenizer (lower case, byte-level BPE, words end in `</w>`) with merges learnt from `captions`.

    As in CLIP's own vocabulary every byte is a token, inside and at the end of a word, so no text is unknown;
    the begin and end marks come last and padding uses the end mark. Same captions in the same order, same
    tokenizer; `save_pretrained` writes it for `CLIPTokenizer.from_pretrained`.

    Args:
        captions: training texts, each used as it is.
        vocab_size: upper bound of the vocabulary; texts with fewer possible merges give a smaller one.
        max_length: tokens of a prompt with both marks; stored as `model_max_length`.

    Raises:
        ValueError: `vocab_size` below 514 (all bytes twice, two marks) or `max_length` below 3.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size is {vocab_size}; all bytes and the two marks alone need {SMALLEST_VOCABULARY} tokens"
        )
    if max_length < 3:
        raise ValueError(f"max_length is {max_length}; a prompt of one token needs 3 with its begin and end marks")
    tokens = list(_LETTERS)
    merges = _learn_merges(captions, vocab_size - SMALLEST_VOCABULARY)
    known = set(tokens)
    for left, right in merges:
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    tokens += [_BOS, _EOS]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=max_length
    )


def _learn_merges(captions: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` BPE merges of `captions`, cut into words exactly as CLIPTokenizer cuts them."""
    cutter = CLIPTokenizer(vocab={_BOS: 0, _EOS: 1}, merges=[]).backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer = cutter.normalizer
    learner.pre_tokenizer = cutter.pre_tokenizer
    # Listed in advance, the letters have fixed ids; the trainer breaks ties by id, and would else number word
    # ends as its hash table has them, in another order each time.
    trainer = trainers.BpeTrainer(
        vocab_size=len(_LETTERS) + count,
        end_of_word_suffix=_WORD_END,
        special_tokens=_LETTERS,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges[:count]]
