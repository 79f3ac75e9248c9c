"""Settings of a run from a file: its own config.json, what a dry run printed, or YAML of the same keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from humansd.core.names import renamed

LARGEST = 1_000_000  # bytes
# A run's config.json also records what the run stood on; that is looked up anew.
_RECORDED = ("_digest", "_weights", "reference_loss")


def read_config(path: Path) -> dict[str, str]:
    """`key: text` of every setting in a file, `stage.key` in a recipe, as `training.settings.with_overrides` takes it.

    Raises:
        OSError: no such file. ValueError: not JSON or YAML of settings; the message names the file and the key.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: more than {LARGEST} bytes, which is no file of settings; name a run's config.json")
    try:
        text = path.read_text()
        values = yaml.load(text, _Once) if path.suffix.lower() in (".yaml", ".yml") else json.loads(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: neither JSON nor YAML of settings ({reason}); mend it") from None
    values = renamed(values)
    if isinstance(values, Mapping) and isinstance(values.get("settings"), Mapping):
        values = values["settings"]  # of a dry run
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: holds a {type(values).__name__} and no settings; write lines like steps: 1000")
    return dict(_flat(values, "", path))


class _Once(yaml.SafeLoader):
    """Refuses a key that is there twice; YAML's own would take the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.YAMLError(f"{twice} is there twice")
        return super().construct_mapping(node, deep)


_NO = ("compile", "mixed_precision")  # settings with the value no, which YAML takes for false
_WORDS = {False: "no", True: "yes"}


def _flat(values: Mapping[str, Any], before: str, path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if str(key).endswith(_RECORDED):
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}.", path)
        elif isinstance(value, bool):
            found.append((name, _WORDS[value] if name.rpartition(".")[2] in _NO else str(value).lower()))
        elif isinstance(value, (str, int, float)):
            found.append((name, str(value)))
        else:
            raise ValueError(f"{path}: {name} is {value!r}; a setting is a number, a text, true or false")
    return found
