"""Words of a prompt that count more or less, "(red:1.3)", as AUTOMATIC1111's web UI writes them; compel weighs them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from humansd.pipelines.humansd import HumanSDPipeline

_WEIGHT = re.compile(r"\(([^():]+):(\d+(?:\.\d+)?)\)")
LARGEST = 3.0


def has_weights(text: str) -> bool:
    """Whether a prompt weighs words."""
    return _WEIGHT.search(text) is not None


def prompt_arguments(
    pipeline: HumanSDPipeline, prompts: Sequence[str], negative: str, clip_skip: int | None
) -> dict[str, Any]:
    """`prompt`, `negative_prompt` and, in the place of those that weigh words, their embeddings for a pipeline's call.

    Raises:
        ValueError: a weight out of range, with `clip_skip`, or where compel is not installed.
    """
    texts: dict[str, Any] = {"prompt": list(prompts), "negative_prompt": negative}
    if any(map(has_weights, prompts)):
        texts |= {"prompt": None, "prompt_embeds": weighted_embeds(pipeline, prompts, clip_skip)}
    if has_weights(negative):
        embeds = weighted_embeds(pipeline, [negative], clip_skip)
        texts |= {"negative_prompt": None, "negative_prompt_embeds": embeds}
    return texts


@torch.no_grad()
def weighted_embeds(pipeline: HumanSDPipeline, prompts: Sequence[str], clip_skip: int | None = None) -> Tensor:
    """Prompts -> (n, tokens, width); one without a weight is encoded as ever."""
    if clip_skip:
        raise ValueError("prompt weights like (red:1.3) and --clip-skip do not go together; leave one out")
    for prompt in prompts:
        for words, weight in _WEIGHT.findall(prompt):
            if not float(weight) <= LARGEST:
                raise ValueError(f"({words}:{weight}): a weight is a number from 0 to {LARGEST:g}; write a smaller one")
    weigh = _compel(pipeline)
    device, dtype = pipeline.place
    rows = [
        weigh(_WEIGHT.sub(r"(\1)\2", prompt))[0] if has_weights(prompt) else pipeline.encode_texts([prompt])[0]
        for prompt in prompts
    ]
    return torch.stack([row.to(device, dtype) for row in rows])


def _compel(pipeline: HumanSDPipeline) -> Any:
    try:
        from compel import Compel, DiffusersTextualInversionManager
    except ImportError:
        raise ValueError(
            "prompt weights like (red:1.3) need the package compel; pip install 'humansd[weights]', or write the words "
            "without them"
        ) from None
    return Compel(
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        textual_inversion_manager=DiffusersTextualInversionManager(pipeline),
        device=pipeline.place[0],
    )
