"""CLIP's words and text encoders as the original code has them, written again the slow and plain way."""

from __future__ import annotations

import gzip
import itertools
import unicodedata
from collections.abc import Mapping
from importlib import resources

import torch
from torch import Tensor
from torch.nn import functional

TOKENS = 77
BEGIN, END = 49406, 49407
_PACKED = (resources.files("humansd.models") / "clip_words" / "merges.txt.gz").read_bytes()
MERGES = [tuple(line.split()) for line in gzip.decompress(_PACKED).decode().splitlines()]
_RANKS = {pair: rank for rank, pair in enumerate(MERGES)}
_SHOWN = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _SHOWN]
_LETTERS = {byte: chr(byte) for byte in _SHOWN} | {byte: chr(256 + n) for n, byte in enumerate(_HIDDEN)}
_ENDS = [letter + "</w>" for letter in _LETTERS.values()]
_IDS = {token: n for n, token in enumerate([*_LETTERS.values(), *_ENDS, *(a + b for a, b in MERGES)])}


def bpe(prompt: str) -> list[int]:
    """Marks around the ids of every word of a prompt."""
    ids = [BEGIN]
    for word in words(unicodedata.normalize("NFC", prompt).lower()):
        symbols = [_LETTERS[byte] for byte in word.encode()]
        symbols[-1] += "</w>"
        while len(symbols) > 1:
            best = min(itertools.pairwise(symbols), key=lambda pair: _RANKS.get(pair, len(_RANKS)))
            if best not in _RANKS:
                break
            joined: list[str] = []
            while symbols:
                both = tuple(symbols[:2]) == best
                joined.append("".join(symbols[: 1 + both]))
                symbols = symbols[1 + both :]
            symbols = joined
        ids += [_IDS[symbol] for symbol in symbols]
    return [*ids, END]


def words(text: str) -> list[str]:
    """Endings after an apostrophe, runs of letters, single numerals, runs of anything else but space."""
    found, at = [], 0
    while at < len(text):
        ending = next((one for one in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(one, at)), "")
        kind, end = _kind(text[at]), at + 1
        if ending:
            end = at + len(ending)
        elif kind != "number":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "space":
            found.append(text[at:end])
        at = end
    return found


def _kind(letter: str) -> str:
    if letter.isspace():
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(letter)[0], "other")


def embeddings(state: Mapping[str, Tensor], prompt: str, *, open_clip: bool, blocks: int, heads: int) -> Tensor:
    """(77, width): what Stable Diffusion's UNet reads of a prompt, from a checkpoint with the original names.

    Stable Diffusion 2 (OpenCLIP): all but the last block, then ln_final; zeros behind the end mark, and the exact
    GELU. Stable Diffusion 1 (OpenAI's CLIP): all blocks; end marks behind the end mark, and x sigmoid(1.702 x).

    Args:
        blocks: how many are run.
    """
    ids = bpe(prompt)
    ids = [*ids[: TOKENS - 1], END] if len(ids) > TOKENS else ids
    ids += [0 if open_clip else END] * (TOKENS - len(ids))
    read = _open_clip if open_clip else _clip
    names = read(state, 0)
    x = names["tokens"][torch.tensor(ids)] + names["positions"]
    future = torch.full((TOKENS, TOKENS), -torch.inf).triu(1)
    for number in range(blocks):
        b = read(state, number)
        y = functional.layer_norm(x, x.shape[-1:], *b["norm1"])
        q, k, v = (functional.linear(y, *one).unflatten(1, (heads, -1)).transpose(0, 1) for one in b["qkv"])
        share = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + future).softmax(-1)
        x = x + functional.linear((share @ v).transpose(0, 1).flatten(1), *b["out"])
        y = functional.linear(functional.layer_norm(x, x.shape[-1:], *b["norm2"]), *b["fc1"])
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5)) if open_clip else y * torch.sigmoid(1.702 * y)
        x = x + functional.linear(y, *b["fc2"])
    return functional.layer_norm(x, x.shape[-1:], *names["last"])


def _open_clip(state: Mapping[str, Tensor], number: int) -> dict:
    top = "cond_stage_model.model."
    at = f"{top}transformer.resblocks.{number}."
    both = lambda name: (state[f"{name}.weight"], state[f"{name}.bias"])  # noqa: E731
    weight, bias = state[at + "attn.in_proj_weight"].chunk(3), state[at + "attn.in_proj_bias"].chunk(3)
    return {
        "tokens": state[top + "token_embedding.weight"],
        "positions": state[top + "positional_embedding"],
        "norm1": both(at + "ln_1"),
        "qkv": list(zip(weight, bias, strict=True)),
        "out": both(at + "attn.out_proj"),
        "norm2": both(at + "ln_2"),
        "fc1": both(at + "mlp.c_fc"),
        "fc2": both(at + "mlp.c_proj"),
        "last": both(top + "ln_final"),
    }


def _clip(state: Mapping[str, Tensor], number: int) -> dict:
    top = "cond_stage_model.transformer.text_model."
    at = f"{top}encoder.layers.{number}."
    both = lambda name: (state[f"{name}.weight"], state[f"{name}.bias"])  # noqa: E731
    return {
        "tokens": state[top + "embeddings.token_embedding.weight"],
        "positions": state[top + "embeddings.position_embedding.weight"],
        "norm1": both(at + "layer_norm1"),
        "qkv": [both(f"{at}self_attn.{one}_proj") for one in "qkv"],
        "out": both(at + "self_attn.out_proj"),
        "norm2": both(at + "layer_norm2"),
        "fc1": both(at + "mlp.fc1"),
        "fc2": both(at + "mlp.fc2"),
        "last": both(top + "final_layer_norm"),
    }
