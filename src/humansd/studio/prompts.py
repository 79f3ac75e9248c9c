"""Prompts as a model is told them, and what a client is told of its own: as the command line does it."""

from __future__ import annotations

from humansd.inference.words import DEFAULT_SCENE, Vocabulary, check_tags
from humansd.studio import weights
from humansd.studio.errors import StudioError

MOST_NAMED = 20  # words in one note


def prepared(
    prompt: str, negative: str, known: Vocabulary | None, *, weighs: bool = False, clip_skip: int | None = None
) -> tuple[str, str, tuple[str, ...]]:
    """(prompt, negative prompt, notes) for a model with this vocabulary: without the words that it does not know, and
    with a style. Without a vocabulary they stay as they are.

    weighs: whether the model reads weights such as (red:1.3); else the words stay without them, and a note says so.

    Raises:
        StudioError: a tag that other servers load weights by, or a weight that cannot be used.
    """
    _check_tags("prompt", prompt)
    _check_tags("negative_prompt", negative)
    notes: list[str] = []
    prompt = _weighed("prompt", prompt, weighs, clip_skip, notes)
    negative = _weighed("negative_prompt", negative, weighs, clip_skip, notes)
    if known is None:
        return prompt, negative, tuple(notes)
    notes += _unknown("prompt", prompt, known) + _unknown("negative_prompt", negative, known)
    said = known.without_unknown(prompt)
    drawn = known.with_scene(said)
    if drawn == f"{DEFAULT_SCENE}, {said}":
        notes.append(f"prompt: no style is named, so {DEFAULT_SCENE!r} is; GET /v1/words lists the others as `scenes`")
    return drawn or prompt, known.without_unknown(negative), tuple(notes)


def _weighed(field: str, text: str, weighs: bool, clip_skip: int | None, notes: list[str]) -> str:
    if not weights.has_weights(text):
        return text
    weights.check_weights(field, text)
    if not weighs:
        notes.append(
            f"{field}: weights as in {weights.first_weight(text)} are not read by this server, its words count as the "
            "others; pip install 'humansd[weights]' where it runs"
        )
        return weights.without_weights(text)
    if clip_skip:
        raise StudioError(f"{field}: weights as in {weights.first_weight(text)} and clip_skip: leave one of them out")
    return text


def _check_tags(field: str, text: str) -> None:
    try:
        check_tags([text])
    except ValueError as error:
        what = str(error).partition("; take it out")[0].replace("the prompt has", "has")
        raise StudioError(
            f"{field}: {what}; take it out, and name by `model` one of /v1/models that has these weights"
        ) from None


def _unknown(field: str, text: str, known: Vocabulary) -> list[str]:
    words = known.unknown(text)
    if not words:
        return []
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    named = ", ".join(map(repr, words[:MOST_NAMED]))
    return [f"{field}: this model does not know {named}{more}, left out; GET /v1/words lists what it knows"]
