"""The words of a model that was trained on few: what a prompt says that it does not know, and the style it names.

A model that learnt from captions of a known vocabulary carries it in its folder, `words.json`.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from humansd.models.names import SHIPPED, weights_folder

FILE = "words.json"
DEFAULT_SCENE = "photo"
LARGEST = 1_000_000  # bytes of that file
LISTED = ("scenes", "places", "light", "people", "garments", "colors", "patterns", "actions")
_TAG = re.compile(r"<(?:lora|lyco|hypernet):([^:>]*)(?::([^>]*))?>", re.IGNORECASE)
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]+(?:[-_'’][^\W\d_]+)*")
_EMPTY_WEIGHT = re.compile(r"\(\s*:\s*[\d.]*\s*\)")


class WordWarning(UserWarning):
    """A prompt says what the model does not know, or does not say what it needs."""


@dataclass(frozen=True)
class Vocabulary:
    """What a model knows: `words`, every single one in small letters; `phrases`, by kind (`LISTED` and `styles`)."""

    words: frozenset[str]
    phrases: dict[str, list[str]] = field(default_factory=dict)

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that are not known, each once, as they are written."""
        found = [word for word in _WORD.findall(prompt) if not self._knows(word.lower())]
        return list(dict.fromkeys(found))

    def without_unknown(self, prompt: str) -> str:
        """The prompt without the words that are not known: their pieces, which a tokenizer reads, would mean others
        ("blurred" holds "red"). As it is where all are known."""
        kept = _WORD.sub(lambda found: found[0] if self._knows(found[0].lower()) else "", prompt)
        if kept == prompt:
            return prompt
        kept = _EMPTY_WEIGHT.sub("", kept)
        parts = (" ".join(part.split()) for part in kept.split(","))
        return ", ".join(part for part in parts if part)

    def names_scene(self, prompt: str) -> bool:
        """Whether a prompt says in which style: by a scene's name, or a way to say it."""
        text = f" {' '.join(_WORD.findall(prompt.lower().replace('_', ' ')))} "
        told = [scene.replace("_", " ") for scene in self.phrases.get("scenes", [])]
        told += [" ".join(_WORD.findall(style)) for style in self.phrases.get("styles", [])]
        return any(f" {one} " in text for one in told)

    def with_scene(self, prompt: str) -> str:
        """The prompt, beginning with a scene as captions do: its own, spelled as they do, or `DEFAULT_SCENE`."""
        scenes = self.phrases.get("scenes", [])
        first, comma, rest = prompt.partition(",")
        spelled = "_".join(_WORD.findall(first.lower().replace("_", " ")))
        if spelled in scenes:
            return f"{spelled}{comma}{rest}"
        if DEFAULT_SCENE not in scenes or self.names_scene(prompt):
            return prompt
        return f"{DEFAULT_SCENE}, {prompt}"

    def _knows(self, word: str) -> bool:
        return word in self.words or all(part in self.words for part in re.split(r"[-_]", word))


def read_vocabulary(model: str) -> Vocabulary | None:
    """That of a shipped model's name or a folder; None where it has none, and of a hub id.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = (weights_folder(model) if model in SHIPPED else Path(model)) / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text()) if path.stat().st_size <= LARGEST else None
    except (ValueError, RecursionError):
        values = None
    fine = isinstance(values, dict) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in values.values()
    )
    if not fine or not isinstance(values, dict) or not values.get("words"):
        raise ValueError(f"{path}: damaged (not lists of words by kind); copy the folder again")
    return Vocabulary(frozenset(values["words"]), {kind: list(texts) for kind, texts in values.items()})


def prepared_prompts(prompts: Sequence[str], model: str) -> list[str]:
    """The prompts as they are drawn: where the model has a vocabulary, without the words that it does not know, and
    with a scene, where it knows scenes.

    One `WordWarning` names the words that were left out, another the scene that was added.

    Raises:
        ValueError: as of `check_tags` and `read_vocabulary`.
    """
    check_tags(prompts)
    known = read_vocabulary(model)
    if known is None:
        return list(prompts)
    _tell_unknown(known, prompts, "", stacklevel=4)
    said = [known.without_unknown(prompt) for prompt in prompts]
    drawn = [known.with_scene(prompt) for prompt in said]
    if any(one == f"{DEFAULT_SCENE}, {prompt}" for one, prompt in zip(drawn, said, strict=True)):
        text = f"no style is named, so '{DEFAULT_SCENE}' is; `humansd words` lists the others"
        warnings.warn(text, WordWarning, stacklevel=3)
    return drawn


def prepared_negatives(prompts: Sequence[str], model: str) -> list[str]:
    """Negative prompts as they count: where the model has a vocabulary, without the words that it does not know, which
    a `WordWarning` names. Errors as of `prepared_prompts`."""
    check_tags(prompts)
    known = read_vocabulary(model) if any(prompts) else None
    if known is None:
        return list(prompts)
    _tell_unknown(known, prompts, " of the negative prompt", stacklevel=4)
    return [known.without_unknown(prompt) for prompt in prompts]


def _tell_unknown(known: Vocabulary, prompts: Sequence[str], where: str, stacklevel: int) -> None:
    strange = list(dict.fromkeys(word for prompt in prompts for word in known.unknown(prompt)))
    if strange:
        text = f"this model does not know {', '.join(map(repr, strange))}{where}, left out; "
        warnings.warn(text + "`humansd words` lists what it knows", WordWarning, stacklevel=stacklevel)


def check_tags(prompts: Sequence[str]) -> None:
    """ValueError for a tag that other tools load weights by, with the option that does it here."""
    for prompt in prompts:
        tag = _TAG.search(prompt)
        if tag is not None:
            scale = f"={tag[2]}" if tag[2] else ""
            raise ValueError(
                f"the prompt has the tag {tag[0]}, which is no text here; take it out, and load the weights with "
                f"--lora {tag[1] or 'FILE'}.safetensors{scale}"
            )


def word_lists(model: str) -> str:
    """What `humansd words` prints: the phrases of each kind.

    Raises:
        ValueError: a model without a vocabulary.
    """
    known = read_vocabulary(model)
    if known is None:
        raise ValueError(
            f"model {model!r} has no {FILE}: it was trained on words without end; the pocket model has one"
        )
    colored = known.phrases.get("colored_scenes", [])
    parts = [f"{kind}: {', '.join(known.phrases[kind])}" for kind in LISTED if known.phrases.get(kind)]
    if colored:
        parts.append(f"colors are drawn in: {', '.join(colored)}")
    return "\n\n".join(["A prompt begins with a scene: photo, a woman in a red coat walking in a forest", *parts])
