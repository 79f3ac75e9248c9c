"""A table of prompts (CSV): one row is one wish, with its own pose, seed and settings where it names them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from humansd.core.numbers import whole
from humansd.inference.sampling import SamplingConfig
from humansd.inference.words import check_tags

LARGEST = 20_000_000  # bytes of a table
MOST_ROWS = 100_000
LARGEST_SEED = 2**63 - 1
_WHOLE = ("seed", "n", "num_inference_steps", "clip_skip", "width", "height")
_REAL = ("guidance_scale", "pose_guidance_scale", "guidance_rescale")
_TEXT = ("pose", "prompt", "negative_prompt", "scheduler")
COLUMNS = (*_TEXT, *_WHOLE, *_REAL, "note")  # a note is the reader's own and not used
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class PromptRow:
    """One row. line: of the file, from 1. pose: a name, "" for every pose. seed, n: None where the row says none."""

    line: int
    prompt: str
    pose: str
    sampling: SamplingConfig
    seed: int | None = None
    n: int | None = None


@dataclass(frozen=True)
class PromptTable:
    """The rows that can be drawn, and line -> what is wrong with one that cannot."""

    rows: tuple[PromptRow, ...]
    left_out: Mapping[int, str]


def read_prompt_table(file: Path, defaults: SamplingConfig) -> PromptTable:
    """Reads a CSV file, UTF-8, whose first line names its columns (`COLUMNS`; `prompt` must be there).

    Cells are separated by commas, semicolons or tabs. An empty cell is what `defaults` say. A row that cannot be used
    is left out and told; empty rows are not counted.

    Args:
        defaults: how images are drawn where a row does not say.

    Raises:
        ValueError: no text in UTF-8, a column that is not known or there twice, no column `prompt`, no row that can be
            drawn, or a file beyond `LARGEST` bytes or `MOST_ROWS` rows.
        OSError: the file cannot be read.
    """
    if file.stat().st_size > LARGEST:
        raise ValueError(f"{file}: is larger than {LARGEST // 10**6} MB; split the table")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: is no UTF-8 text (byte {error.start}); save the table as CSV in UTF-8") from None
    reader, columns = _opened(file, text)
    rows: list[PromptRow] = []
    left_out: dict[int, str] = {}
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) + len(left_out) >= MOST_ROWS:
                raise ValueError(f"{file}: has more than {MOST_ROWS} rows; split the table")
            try:
                rows.append(_row(reader.line_num, columns, cells, defaults))
            except ValueError as error:
                left_out[reader.line_num] = str(error)
    except csv.Error as error:
        raise ValueError(f"{file}: line {reader.line_num}: {error}; save the table as plain CSV") from None
    if not rows:
        first = next((f"; line {line}: {problem}" for line, problem in left_out.items()), "")
        raise ValueError(f"{file}: no row can be drawn{first}")
    return PromptTable(tuple(rows), left_out)


def _opened(file: Path, text: str) -> tuple[Any, list[str]]:
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [name.strip().lower() for name in next(reader, [])]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "prompt" not in columns:
        what = f"column {unknown[0]!r} is not known" if unknown else "there is no column 'prompt'"
        raise ValueError(f"{file}: line 1: {what}; the columns are {', '.join(COLUMNS)}")
    double = next((name for name in columns if columns.count(name) > 1), None)
    if double:
        raise ValueError(f"{file}: line 1: the column {double!r} is there twice; keep one of them")
    return reader, columns


def _row(line: int, columns: Sequence[str], cells: Sequence[str], defaults: SamplingConfig) -> PromptRow:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise ValueError(
            f"{len(cells)} cells, and the table has {len(columns)} columns; put a text with commas into quotes"
        )
    named = {name: cell.strip() for name, cell in zip(columns, cells) if cell.strip()}
    prompt = named.get("prompt", "")
    if not prompt:
        raise ValueError("the prompt is empty")
    check_tags([prompt])
    numbers = {name: _whole(name, named[name]) for name in _WHOLE if name in named}
    values: dict[str, Any] = {**named, **numbers, **{name: _real(name, named[name]) for name in _REAL if name in named}}
    changes = {field.name: values[field.name] for field in fields(SamplingConfig) if field.name in values}
    if ("width" in numbers) != ("height" in numbers):
        raise ValueError("width and height belong together; give both")
    if "width" in numbers:
        changes["size"] = (whole("width", numbers["width"]), whole("height", numbers["height"]))
    n, seed = numbers.get("n"), numbers.get("seed")
    if n is not None:
        whole("n", n, most=10_000)
    if seed is not None:
        whole("seed", seed, least=0, most=LARGEST_SEED - (n or 1))
    return PromptRow(line, prompt, named.get("pose", ""), replace(defaults, **changes), seed, n)


def _whole(name: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise ValueError(f"{name} is {cell[:40]!r}; it must be a whole number") from None


def _real(name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{name} is {cell[:40]!r}; it must be a number") from None
