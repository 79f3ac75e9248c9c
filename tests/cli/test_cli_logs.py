"""What the rooms log is shown: what was done on stdout, notes on stderr, of the studio only what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from humansd.cli.checks import say_loading
from humansd.cli.logs import show_logs


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """Logs are shown during the test alone; twice asked for is once."""
    log = logging.getLogger("humansd")
    before = log.handlers[:], log.level
    show_logs()
    show_logs()
    yield
    log.handlers[:], log.level = before


def test_each_record_goes_where_it_belongs_once(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("humansd.inference.pose_files").info("%s: %d people found", "a.png", 2)
    logging.getLogger("humansd.core.lock").warning("another process writes there; %s", "waiting for it")
    logging.getLogger("humansd.core.lock").debug("nobody asks for this")
    out, err = capsys.readouterr()
    assert out == "a.png: 2 people found\n"
    assert err == "humansd: note: another process writes there; waiting for it\n"


def test_of_the_studio_only_what_went_wrong_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("humansd.studio.app")
    log.info("GET /images")
    try:
        raise RuntimeError("the card is gone")
    except RuntimeError:
        log.exception("an image failed")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("an image failed\nTraceback")
    assert err.endswith("RuntimeError: the card is gone\n")


def test_a_terminal_is_told_what_is_loaded_and_a_program_is_not(capsys, monkeypatch) -> None:
    say_loading("pocket")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    say_loading("pocket")
    assert capsys.readouterr().err == "humansd: loading pocket ...\n"
