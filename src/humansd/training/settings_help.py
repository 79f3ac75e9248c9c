"""What each setting of a preset means, in lines: the comments beside the fields of `settings` are the one source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any

WIDTH = 100
_ROOM = __name__.rpartition(".")[0]


def settings_help(settings: Any) -> str:
    """A paragraph a setting: name, type, the value that the preset gives it, and what it means; stage by stage."""
    values = [f for f in dataclasses.fields(settings) if not dataclasses.is_dataclass(getattr(settings, f.name))]
    parts = [_line(settings, field.name) for field in values]
    for field in dataclasses.fields(settings):
        stage = getattr(settings, field.name)
        if dataclasses.is_dataclass(stage):
            lines = textwrap.indent(settings_help(stage), "  ")
            parts.append(f"{field.name}.SETTING ({type(stage).__name__.removesuffix('Settings')})\n{lines}")
    return "\n".join(parts)


def explanations(kind: type[Any]) -> dict[str, str]:
    """Field of a dataclass of settings -> its comment, also of the classes that it comes from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one) and one.__module__.startswith(_ROOM):
            found |= {name: text for name, text in _comments(one).items() if text or name not in found}
    return found


def _line(settings: Any, name: str) -> str:
    value, text = getattr(settings, name), explanations(type(settings))[name]
    free = text.startswith("*")
    text = text.removeprefix("*").strip() + ("; a run that goes on may change it" if free else "")
    shown = {True: "true", False: "false", "": "empty"}.get(value, value) if isinstance(value, (bool, str)) else value
    head = f"  {name}={shown}"
    return textwrap.fill(f"{head}  {text}", WIDTH, subsequent_indent=" " * 6)


@functools.cache
def _comments(kind: type[Any]) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        words = [lines[row].partition("# ")[2] for row in range(node.lineno - 1, node.end_lineno or node.lineno)]
        for line in lines[node.end_lineno or node.lineno :]:
            if not line.strip().startswith("#"):
                break
            words.append(line.strip().removeprefix("#").strip())
        found[node.target.id] = " ".join(word for word in words if word)
    return found
