"""Options of other tools and misspelt ones are answered with the command's own; right ones are left alone."""

from __future__ import annotations

import pytest

from humansd.cli import build_parser, main


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("evaluate --data x --out y --cfg 3", "--cfg is no option of `humansd evaluate`; write --guidance-scale 3"),
        (
            "train pocket-humansd --steps 9",
            "--steps is no option of `humansd train`; a setting is given as --set steps=9",
        ),
        ("train pocket-humansd --learning-rate 1e-4", "--set learning_rate=1e-4"),
        ("train pocket-humansd --output runs/a", "write --out runs/a"),
        ("data atelier --n 8", "--n is no option of `humansd data atelier`; write --count 8"),
        ("data atelier --resolution 64", "write --size 64"),
        ("data import x --output y", "write --out y"),
        ("demo --n 4", "--n is no option of `humansd demo`; `humansd demo --help` lists them"),
        ("pose score x.json --img y", "did you mean --images?"),
        ("train pocket-humansd --sets data=val", "--sets is no option of `humansd train`; did you mean --set?"),
        ("train pocket-humansd --learning-rat 1e-4", "did you mean --set learning_rate=1e-4?"),
        ("reproduce table1 --out x --weight-decay 0", "a setting is given as --set weight_decay=0"),
        (
            "reproduce table1 --dry-run",
            "--dry-run is no option of `humansd reproduce table1`; `humansd reproduce table1 --help` lists them",
        ),
        ("evalaute --data x", "evalaute is no command of `humansd`; did you mean evaluate?"),
        ("reproduce tabel1", "tabel1 is no command of `humansd reproduce`; did you mean table1?"),
    ],
)
def test_each_command_names_its_own_option(capsys: pytest.CaptureFixture[str], command: str, answer: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(command.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(said.splitlines()) == 1
    assert answer in said


def test_a_command_like_none_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["frobnicate"])
    assert "choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "9", "--negative", "x", "--guidance", "2", "--poses", "p"],  # the command's own second names
        ["--batch", "2", "--sched", "ddim"],  # shortened
        ["--n=2", "--seed", "-1"],  # a negative number is a value
        ["--", "-n"],  # a prompt that looks like an option
        ["-a man with a dash"],
    ],
)
def test_what_argparse_takes_is_taken(options: list[str]) -> None:
    build_parser().parse_args(["generate", "--pose", "p", *options])


def test_a_value_that_looks_like_an_option_is_the_matter_of_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "a man", "--pose", "p", "--negative-prompt", "-blurry"])
    assert "--negative-prompt/--negative: expected one argument" in capsys.readouterr().err
