"""CLIP's tokenizer, from words that ship with the package, and the check that a tokenizer is its text encoder's own.

Without the check a model draws deaf: where its files are missing, transformers builds a tokenizer of two or three
tokens, and every prompt becomes the same embedding.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from huggingface_hub import constants
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.models.loading import HubError, from_hub, on_hub

Family = Literal["sd1", "sd2"]

VOCABULARY = 49408  # of OpenAI's CLIP and of OpenCLIP's ViT-H: 512 letters, 48,894 merges, two marks
MAX_TOKENS = 77
NO_WORDS = 3  # tokens at most of what transformers makes up where the files are missing
_WIDTHS: dict[int, Family] = {768: "sd1", 1024: "sd2"}  # of the text encoder
_NAMES = {"sd1": "CLIP ViT-L/14 (Stable Diffusion 1)", "sd2": "OpenCLIP ViT-H/14 (Stable Diffusion 2)"}
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(family: str) -> CLIPTokenizer:
    """The tokenizer of Stable Diffusion 1 ("sd1") or 2 ("sd2"), made without the hub from the merges that ship.

    Both know the same 49,408 tokens and give the same ids, up to 77 of them. "sd1" pads with <|endoftext|>. "sd2" pads
    with "!", id 0, as OpenCLIP pads with zeros, and reads a "!" in a prompt as the word it is, 256, and its two marks
    as plain text, also as OpenCLIP does. Unlike both originals it does not repair wrongly decoded text (ftfy) nor
    HTML's `&amp;` and the like.

    Raises:
        ValueError: another family.
    """
    if family not in get_args(Family):
        raise ValueError(f"family is {family!r}; choose sd1 or sd2")
    merges = _merges()
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), _BEGIN, _END]
    # A pad token is taken for a mark wherever it stands, so a prompt's "!" would become padding but for the splitting.
    padding: dict[str, Any] = {"pad_token": "!", "split_special_tokens": True} if family == "sd2" else {}
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
        **padding,
    )


def load_tokenizer(
    source: str | os.PathLike[str],
    text_encoder: CLIPTextModel,
    *,
    subfolder: str = "tokenizer",
    family: Family | None = None,
) -> CLIPTokenizer:
    """The tokenizer of a folder or hub id, checked against the text encoder that will read its tokens.

    Args:
        source: a folder with `subfolder`, one that is a tokenizer itself, or the hub id of either.
        family: as in `check_tokenizer`.

    Raises:
        OSError: no such folder or repository, no file of it can be read, or the hub does not answer.
        ValueError: as `check_tokenizer`.
    """
    if not Path(source).is_dir() and not on_hub(source):
        raise FileNotFoundError(f"tokenizer {os.fspath(source)!r}: no such folder, and no hub id (owner/name)")
    failed: Exception | None = None
    place = str(source)
    for place, options in _places(source, subfolder):
        try:
            tokenizer = from_hub(_read, source, **options)
        except Exception as error:  # tokenizers and transformers raise anything, by what is wrong with the files
            failed = error
            continue
        check_tokenizer(tokenizer, text_encoder, place, family=family)
        return tokenizer
    if isinstance(failed, HubError):
        raise failed
    reason = (str(failed).strip() or type(failed).__name__).splitlines()[0]
    raise OSError(f"{place}: no tokenizer can be loaded ({reason}); {_remedy(text_encoder, family)}") from failed


def check_tokenizer(
    tokenizer: Any, text_encoder: CLIPTextModel, source: str | os.PathLike[str] = "", *, family: Family | None = None
) -> None:
    """Whether a tokenizer is the text encoder's own: as many tokens, and the padding that it was trained with.

    The padding is checked for the two families of Stable Diffusion; on OpenCLIP's the other one's moves the embedding
    by 39 %. Tokens added by textual inversion pass where the text encoder was resized for them.

    Args:
        source: where it comes from, for the message.
        family: "sd1" or "sd2" where that is known; default: by the text encoder's width and vocabulary.

    Raises:
        ValueError: another number of tokens, or another padding; the message says how to mend it.
    """
    beginning = f"{source}: " if str(source) else ""
    longest = tokenizer.model_max_length
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 3:
        raise ValueError(
            f"{beginning}the tokenizer's model_max_length is {str(longest)[:80]!r}; mend tokenizer_config.json: it is "
            "a whole number of 3 or more (77 for Stable Diffusion)"
        )
    known, read = len(tokenizer), int(text_encoder.config.vocab_size)
    if known != read:
        missing = " (files are missing: tokenizer.json, or vocab.json and merges.txt)" if known <= NO_WORDS else ""
        raise ValueError(
            f"{beginning}the tokenizer has {known} tokens{missing}, its text encoder reads {read}; "
            f"{_remedy(text_encoder, family)}"
        )
    family = family or _family(text_encoder)
    if family is None:
        return
    expected = 0 if family == "sd2" else tokenizer.convert_tokens_to_ids(_END)
    if tokenizer.pad_token_id != expected:
        token = "!" if family == "sd2" else _END
        raise ValueError(
            f"{beginning}the tokenizer pads with {tokenizer.pad_token!r}, {_NAMES[family]} with {token!r}; write "
            f'"pad_token": "{token}" into its tokenizer_config.json (and special_tokens_map.json), or '
            f"{_remedy(text_encoder, family)}"
        )


def _remedy(text_encoder: CLIPTextModel, family: Family | None) -> str:
    family = family or _family(text_encoder)
    if family is None:
        return "put the files of its own tokenizer there"
    return f'give it the one that ships: humansd.models.tokenizers.clip_tokenizer("{family}").save_pretrained(FOLDER)'


def _family(text_encoder: CLIPTextModel) -> Family | None:
    config = text_encoder.config
    return _WIDTHS.get(config.hidden_size) if config.vocab_size >= VOCABULARY else None


def _places(source: str | os.PathLike[str], subfolder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a tokenizer may lie, in words, and the options that lead there."""
    folder = Path(source)
    inside = (str(folder / subfolder), {"subfolder": subfolder})
    if folder.is_dir():
        yield inside if (folder / subfolder).is_dir() else (str(folder), {})
    else:
        yield inside
        yield str(source), {}


def _read(source: str | os.PathLike[str], **options: Any) -> CLIPTokenizer:
    tokenizer = CLIPTokenizer.from_pretrained(source, **options)
    if on_hub(source) and len(tokenizer) <= NO_WORDS:
        searched = " in the local cache, and HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
        raise FileNotFoundError(f"no tokenizer.json, nor vocab.json and merges.txt, is there{searched}")
    return tokenizer


def _merges() -> list[tuple[str, str]]:
    """Pairs of tokens in the order in which they are merged."""
    packed = resources.files("humansd.models") / "clip_words" / "merges.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
