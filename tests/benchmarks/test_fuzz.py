"""A short run of the fuzzer, and that it would notice what it is there for."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from humansd.benchmarks import fuzz as fuzzer
from humansd.benchmarks.fuzz import Target, as_table, benchmark_fuzz, centernet, fuzz
from humansd.benchmarks.fuzz_models import ATTACKS as MODEL_ATTACKS
from humansd.benchmarks.fuzz_poses import ATTACKS as POSE_ATTACKS
from humansd.benchmarks.fuzz_samples import ATTACKS as SAMPLE_ATTACKS
from humansd.benchmarks.plain_readers import Unknown
from humansd.cli import main
from long_tests import LONG


@pytest.mark.parametrize(("name", "attacks"), [("poses", POSE_ATTACKS), ("samples", SAMPLE_ATTACKS)])
def test_damaged_files_are_refused_or_read_as_the_independent_reader_reads_them(name, attacks, tmp_path):
    """Behind the hostile files made by hand, which have tests of their own."""
    count = fuzz(name, range(len(attacks), len(attacks) + 250), seed=1, keep=tmp_path)
    assert not count.failures, (as_table([count]), count.failures[:3])
    kinds = {one.kind for one in count.outcomes}
    assert {"refused", "equal"} <= kinds
    assert sum(one.kind == "equal" for one in count.outcomes) > 20
    assert not list(tmp_path.iterdir())


def write(text):
    def make(*arguments):
        path = arguments[-1] / "x"
        path.write_text(text)
        return path

    return make


def target(read, truth=lambda path: "abc", text="abc"):
    return Target(write(text), {}, read, truth, lambda a, b: "" if a == b else f"{a} {b}", (KeyError,))


def refuse(path):
    raise KeyError("refused")


def fail(path):
    return 1 / 0


def waste_time(path):
    end = time.process_time() + 2.1
    while time.process_time() < end:
        pass
    return "abc"


def waste_memory(path):
    return len(bytearray(b"x") * 600_000_000) and "abc"


def cannot_tell(path):
    raise Unknown("no idea")


def cannot_read(path):
    raise TypeError("what is this")


@pytest.mark.parametrize(
    ("attacked", "kind", "text"),
    [
        (target(Path.read_text), "equal", ""),
        (target(refuse), "refused", "refused"),
        (target(fail), "error", "ZeroDivisionError: division by zero"),
        (target(Path.read_text, text="abd"), "wrong", "abd abc"),
        (target(Path.read_text, cannot_read), "wrong", "read, and the independent reader says TypeError: what is this"),
        (target(Path.read_text, cannot_tell), "unknown", "no idea"),
        (target(waste_time), "slow", "2.1 s"),
        (target(waste_memory), "large", " MB"),
    ],
)
def test_what_comes_of_a_mutant(attacked, kind, text, tmp_path):
    outcome = centernet(attacked, 0, 0, tmp_path)
    assert outcome.kind == kind
    assert text in outcome.text


def test_equal_numbers_and_seeds_are_equal_mutants(tmp_path):
    from humansd.benchmarks.fuzz_samples import TARGET

    made = []
    for place, seed in (("a", "1 7"), ("b", "1 7"), ("c", "2 7")):
        (tmp_path / place).mkdir()
        made.append(TARGET.make(random.Random(seed), tmp_path / place).read_bytes())
    assert made[0] == made[1] != made[2]


def test_a_worker_that_hangs_or_dies_costs_one_mutant(monkeypatch, tmp_path):
    (tmp_path / "hostile_target.py").write_text(
        "import os, time\n"
        "from humansd.benchmarks.fuzz import Target\n"
        "def make(rng, folder):\n"
        "    return folder\n"
        "def read(path):\n"
        "    {'1': lambda: time.sleep(60), '2': lambda: os.kill(os.getpid(), 9)}.get(path.name, lambda: None)()\n"
        "    return 'abc'\n"
        "TARGET = Target(make, {}, read, lambda path: 'abc', lambda a, b: '', ())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(fuzzer.TARGETS, "hostile", "hostile_target")
    monkeypatch.setattr(fuzzer, "_KILLED_AFTER_S", 2.0)
    count = fuzz("hostile", range(4), 0)
    assert [one.kind for one in count.outcomes] == ["equal", "hang", "died", "equal"]
    assert "exit status -9" in count.outcomes[2].text
    assert "| hostile | 4 | 0 | 2 | 0 | 0 | 0 | 1 | 0 | 1 |" in as_table([count])


def test_the_command_prints_the_table_and_fails_with_the_failures(monkeypatch, capsys):
    assert main(["benchmark", "fuzz", "samples", "--count", "3"]) == 0
    assert "| samples | 3 | 3 | 0 |" in capsys.readouterr().out
    assert main(["benchmark", "fuzz", "letters"]) == 2
    assert "'letters' is no target of the fuzzer; choose of poses, samples" in capsys.readouterr().err
    monkeypatch.setattr(fuzzer, "fuzz", lambda name, *_: fuzzer.Count(name, [fuzzer.Outcome(40, "slow", "3 s")]))
    with pytest.raises(ValueError, match=r"(?s)\| poses \| 1 \|.*1 failures: poses 40: slow"):
        benchmark_fuzz(["poses"], 1, 0)


def test_damaged_model_folders_are_refused_or_draw_the_same(tmp_path):
    """The hostile folders made by hand come first: code, pipes, networks that nobody has."""
    count = fuzz("models", range(len(MODEL_ATTACKS) + (40 if LONG else 15)), seed=1, keep=tmp_path)
    assert not count.failures, (as_table([count]), count.failures[:3])
    attacked = count.outcomes[: len(MODEL_ATTACKS)]
    harmless = (
        "a tokenizer elsewhere",
        "a class name that is a path",
        "its loader replaced",
    )  # none of it is looked up
    assert [one.text.split(":")[0] for one in attacked if one.kind != "refused"] == list(harmless)
    assert not Path("/tmp/humansd-fuzz-ran").exists()
