"""Words of a prompt that count more or less: "(red:1.3)", and how WebUI writes that and more."""

from __future__ import annotations

import re
from itertools import groupby

from humansd.studio.errors import StudioError

LARGEST = 3.0
_WEIGHT = re.compile(r"\(([^():]+):(\d+(?:\.\d+)?)\)")  # what `inference.prompt_weights` weighs, where torch is
_ROUND, _SQUARE = 1.1, 1 / 1.1  # what WebUI's brackets without a number mean
_MARKS = re.compile(r"[()\[\]\\]|\bBREAK\b")
_BREAK = re.compile(r"\s*,?\s*\bBREAK\b\s*,?")
_EDIT = re.compile(r"(?<!\\)\[([^()\[\]\\]*[:|][^()\[\]\\]*)\]")
_PIECE = re.compile(
    r"\\(?P<kept>[()\[\]\\])|(?P<open>[(\[])|:\s*(?P<weight>[+-]?\d*\.?\d+)\s*\)|(?P<close>[)\]])|[^()\[\]\\:]+|[:\\]"
)
Part = tuple[str, float]


def has_weights(text: str) -> bool:
    """Whether a prompt weighs words, as "(red:1.3)"."""
    return _WEIGHT.search(text) is not None


def without_weights(text: str) -> str:
    """The words alone."""
    return _WEIGHT.sub(r"\1", text)


def first_weight(text: str) -> str:
    """The first words with their weight, as they are written; "" without any."""
    found = _WEIGHT.search(text)
    return found[0][:60] if found else ""


def check_weights(field: str, text: str) -> None:
    """StudioError for a weight that is too large."""
    for words, weight in _WEIGHT.findall(text):
        _check(field, words, float(weight))


def from_webui(field: str, text: str) -> tuple[str, list[str]]:
    """(prompt, notes): what WebUI's users write, with each weight as "(words:1.21)" and no other sign.

    ((a)) weighs 1.1 * 1.1, [a] 1 / 1.1, (a:1.3) 1.3; \\( is a bracket. Of prompts that change while they are drawn,
    [a:b:0.5] and [a|b], all words are drawn from the beginning, and BREAK is a comma; a note says so.

    Raises:
        StudioError: a weight that is not from 0 to `LARGEST`.
    """
    if _MARKS.search(text) is None:
        return text, []
    notes = []
    if changing := _EDIT.search(text):
        notes.append(f"{field}: {changing[0][:60]} is not read as a change while it is drawn; all its words are drawn")
        text = _EDIT.sub(lambda found: _words_of_change(found[1]), text)
    if _BREAK.search(text):
        notes.append(f"{field}: BREAK is not read; a comma stands in its place")
        text = _BREAK.sub(", ", text)
    parts = [
        ("".join(words for words, _ in group), weight)
        for weight, group in groupby(_parts(text), key=lambda part: round(part[1], 2))
    ]
    weighs = any(weight != 1 and words.strip(" ,") for words, weight in parts)
    written = "".join(_written(field, words, weight) if weighs else words for words, weight in parts)
    return " ".join(written.split()), notes


def _words_of_change(inside: str) -> str:
    words = [one.strip() for one in re.split(r"[:|]", inside)]
    if ":" in inside and re.fullmatch(r"\d*\.?\d+", words[-1]):  # when it changes
        words.pop()
    return ", ".join(filter(None, words))


def _parts(text: str) -> list[Part]:
    """Words with their weights, in the order of the prompt. A bracket that nobody closes reaches to the end."""
    words: list[str] = []
    weights: list[float] = []
    begun: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, by: float) -> None:
        for i in range(start, len(weights)):
            weights[i] *= by

    for piece in _PIECE.finditer(text):
        if piece["open"]:
            begun[piece["open"]].append(len(words))
        elif piece["weight"] and begun["("]:
            weigh(begun["("].pop(), float(piece["weight"]))
        elif piece["close"]:
            opened = begun["(" if piece["close"] == ")" else "["]
            if opened:
                weigh(opened.pop(), _ROUND if piece["close"] == ")" else _SQUARE)
        else:
            words.append(piece["kept"] or piece[0].rstrip(")"))
            weights.append(1.0)
    for start in begun["("]:
        weigh(start, _ROUND)
    for start in begun["["]:
        weigh(start, _SQUARE)
    return list(zip(words, weights, strict=True))


def _written(field: str, words: str, weight: float) -> str:
    """As compel's and our own readers know it; a bracket inside would end it."""
    plain = re.sub(r"[()\[\]]", " ", words)
    if weight == 1:
        return plain
    said = plain.replace(":", " ").strip()
    if not said.strip(" ,"):
        return plain
    _check(field, said, weight)
    before, after = (" " * (part != plain) for part in (plain.lstrip(), plain.rstrip()))
    return f"{before}({said}:{weight:g}){after}"


def _check(field: str, words: str, weight: float) -> None:
    if not 0 <= weight <= LARGEST:
        told = f"({words.strip()[:40]}:{weight:g})"
        raise StudioError(f"{field}: {told}: a weight is a number from 0 to {LARGEST:g}; write another", status=422)
