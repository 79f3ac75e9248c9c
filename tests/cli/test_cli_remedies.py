"""What errors and notes advise exists: every option and command that the source names is one of this program."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import humansd
from humansd.cli import build_parser, main

SOURCE = Path(humansd.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
COMMAND = re.compile(r"`?humansd ((?:[a-z][a-z0-9]+ ?){1,2})")
# Of other programs that a message tells to run.
FOREIGN = {"--user", "--no-deps", "--docs", "--anny-cache", "--format"}


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub, one in action.choices.items():
                yield from parsers(one, f"{name} {sub}".strip())


def texts() -> Iterator[tuple[str, str]]:
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "var(--" not in node.value:
                yield f"{file.relative_to(SOURCE)}:{node.lineno}", node.value


def test_every_option_that_a_text_names_exists() -> None:
    known = {
        option for _, one in parsers(build_parser()) for action in one._actions for option in action.option_strings
    }
    named = [(where, option) for where, text in texts() for option in OPTION.findall(text)]
    assert [one for one in named if one[1] not in known | FOREIGN] == []


def test_every_command_that_a_remedy_names_exists() -> None:
    known = {name for name, _ in parsers(build_parser())}
    groups = {name.split()[0] for name in known if " " in name}
    for where, text in texts():
        for words in re.findall(r"`humansd ([a-z][a-z0-9 -]*)", text):
            named = words.split()
            command = " ".join(named[:2]) if named[0] in groups else named[0]
            assert command in known, (where, command)


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "a man", "--pose", "nope"],
        ["generate", "a man <lora:x:1>", "--pose", "pose.json"],
        ["generate", "a man", "--pose", "pose.json"],
        ["generate", "a man", "--pose", "pose.json", "--mask", "pose"],
        ["pose", "draw", "pose.json", "--out", "a.png"],
        ["pose", "detect", "nope", "--out", "a"],
        ["pose", "score", "nope", "--out", "a"],
        ["evaluate", "--data", "nope", "--out", "a"],
        ["evaluate", "--data", "empty", "--count", "3", "--out", "a"],
        ["compare", "nope"],
        ["train"],
        ["train", "pocket-humansd"],
        ["train", "humansd-sd15", "--dry-run", "--set", "estimator="],
        ["train", "pocket", "--validate", "empty"],
        ["data", "show", "nope", "--out", "a.png"],
        ["convert", "checkpoint", "nope.ckpt", "--out", "a"],
        ["convert", "folder", "nope", "--out", "a.safetensors"],
        ["words", "--model", "nope"],
    ],
)
def test_errors_of_the_shell_name_options_of_the_command(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "pose.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 1]}]}')
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("humansd: ")
    own = [one for name, one in parsers(build_parser()) if name and " ".join(command).startswith(name)][-1]
    options = {option for action in own._actions for option in action.option_strings}
    for option in OPTION.findall(re.sub(r"`humansd [^`]*`", "", said)):
        assert option in options, said
