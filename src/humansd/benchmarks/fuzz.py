"""Files damaged at random, read by the package and by an independent reader: `humansd benchmark fuzz`.

Each mutant comes from (seed, target, number) alone. A worker process reads it, with its time and memory measured; one
that hangs is killed. A mutant passes if the package refuses it with an error of its own, or reads what the independent
reader reads, in at most 2 seconds of computing and 500 MB.

A new target is a `Target` in a module of its own and a line in `TARGETS`; its module is loaded in the worker alone.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import random
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from humansd.benchmarks.plain_readers import Unknown

MAX_SECONDS = 2.0  # of computing, for one mutant
MAX_BYTES = 500 * 10**6  # of memory, beside what the worker held before it
_KILLED_AFTER_S = 30.0  # of waiting, however busy the machine is
_STARTED_AFTER_S = 600.0  # of waiting until a worker has imported what it reads with
_ADDRESS_SPACE = 4 << 30  # bytes a mutant may ask for before Python says no; keeps the machine safe
_SHOWN = 5  # failures in the table's text

TARGETS = {
    "poses": "humansd.benchmarks.fuzz_poses",
    "samples": "humansd.benchmarks.fuzz_samples",
    "models": "humansd.benchmarks.fuzz_models",
}


@dataclass(frozen=True)
class Target:
    """What is attacked.

    make: (random numbers, an empty folder) -> the mutant, a file or folder written there.
    attacks: by name, hostile files made by hand; they are the first mutants of a run.
    read: what the package makes of the mutant.
    truth: what the independent reader makes of it; `Unknown` where it cannot tell.
    differs: how the two differ, in words; "" where they agree.
    errors: which errors of `read` refuse a mutant; any other exception is a failure.
    refusal: what of the mutant was left out, of an answer that agrees; "" where nothing was.
    """

    make: Callable[[random.Random, Path], Path]
    attacks: Mapping[str, Callable[[Path], Path]]
    read: Callable[[Path], Any]
    truth: Callable[[Path], Any]
    differs: Callable[[Any, Any], str]
    errors: tuple[type[Exception], ...]
    refusal: Callable[[Any], str] = lambda answer: ""


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant. kind: "refused", "equal" or "unknown" (read; the independent reader cannot tell) are
    well; "error", "wrong", "slow", "hang", "large" and "died" are failures."""

    number: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Count:
    """The outcomes of one target."""

    name: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.kind not in ("refused", "equal", "unknown")]


def benchmark_fuzz(names: Sequence[str], count: int, seed: int, keep: Path | None = None) -> str:
    """Attacks each target of `names` with `count` mutants; a table of what came of them.

    keep: a folder for the mutants that fail.

    Raises:
        ValueError: an unknown target, fewer than one mutant, or a failure; the message has the table.
    """
    if count < 1:
        raise ValueError(f"count is {count}; it must be 1 or more")
    for name in names:
        if name not in TARGETS:
            raise ValueError(f"{name!r} is no target of the fuzzer; choose of {', '.join(TARGETS)}")
    counts = [fuzz(name, range(count), seed, keep) for name in names]
    text = as_table(counts)
    failures = [f"{c.name} {one.number}: {one.kind}: {one.text}" for c in counts for one in c.failures]
    if failures:
        more = f" and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise ValueError(f"{text}\n{len(failures)} failures: {'; '.join(failures[:_SHOWN])}{more}")
    return text


def fuzz(name: str, numbers: Sequence[int], seed: int, keep: Path | None = None) -> Count:
    """The outcomes of these mutants of a target, each of them read in a worker process."""
    count, left = Count(name), list(numbers)
    while left:
        with _worker(name, left, seed, keep) as (process, answers):
            for number in list(left):
                left.remove(number)
                try:
                    outcome = _answer(process, answers, _KILLED_AFTER_S)
                    if isinstance(outcome, str):
                        raise RuntimeError(f"the fuzzer could not make mutant {number} of {name}:\n{outcome}")
                    count.outcomes.append(outcome)
                except EOFError:
                    process.join(1)
                    hangs = process.is_alive()
                    text = f"no answer in {_KILLED_AFTER_S:.0f} s" if hangs else f"exit status {process.exitcode}"
                    count.outcomes.append(Outcome(number, "hang" if hangs else "died", text))
                    break
    return count


def _answer(process: BaseProcess, answers: Connection, limit_s: float) -> Any:
    """What a worker says next; EOFError where it is gone or says nothing in so many seconds."""
    started = time.monotonic()
    while not answers.poll(0.2) and process.is_alive() and time.monotonic() - started < limit_s:
        pass
    if not answers.poll():
        raise EOFError
    return answers.recv()


def as_table(counts: Sequence[Count]) -> str:
    """Markdown: how many mutants were refused, read, and failed, and the largest time and memory."""
    lines = [
        "| target | mutants | refused | read, equal | read, unknown | other errors | wrong | over 2 s | over 500 MB | "
        "died | longest s | most MB |",
        "|" + "---|" * 12,
    ]
    for count in counts:
        kinds = Counter(one.kind for one in count.outcomes)
        numbers = [len(count.outcomes), kinds["refused"], kinds["equal"], kinds["unknown"], kinds["error"]]
        numbers += [kinds["wrong"], kinds["slow"] + kinds["hang"], kinds["large"], kinds["died"]]
        longest = max((one.seconds for one in count.outcomes), default=0.0)
        most = max((one.bytes for one in count.outcomes), default=0) / 1e6
        lines.append(f"| {count.name} | {' | '.join(map(str, numbers))} | {longest:.2f} | {most:.0f} |")
    return "\n".join(lines)


def centernet(target: Target, number: int, seed: int | str, folder: Path, resting: int | None = None) -> Outcome:
    """Makes mutant `number` in the empty `folder` and says what comes of it, in this process.

    resting: bytes that the process holds when it reads nothing; default: what it holds now.
    """
    resting = _memory("VmRSS") if resting is None else resting
    names = list(target.attacks)
    if number < len(names):
        mutant = target.attacks[names[number]](folder)
    else:
        mutant = target.make(random.Random(f"{seed} {number}"), folder)
    answer, error, seconds, peak = _measured(lambda: target.read(mutant))
    size = max(0, peak - resting)
    if error is None and answer is not None:
        kind, text = _compared(target, answer, mutant)
        if kind == "equal" and target.refusal(answer):
            kind, text = "refused", target.refusal(answer)
    elif isinstance(error, target.errors):
        kind, text = "refused", str(error)
    else:
        kind, text = "error", f"{type(error).__name__}: {error}"
    if kind in ("refused", "equal", "unknown") and size > MAX_BYTES:
        kind, text = "large", f"{size / 1e6:.0f} MB"
    if kind in ("refused", "equal", "unknown") and seconds > MAX_SECONDS:
        kind, text = "slow", f"{seconds:.1f} s"
    label = f"{names[number]}: " if number < len(names) else ""
    return Outcome(number, kind, (label + text)[:400].encode(errors="backslashreplace").decode(), seconds, size)


def _compared(target: Target, answer: Any, mutant: Path) -> tuple[str, str]:
    try:
        difference = target.differs(answer, target.truth(mutant))
    except Unknown as reason:
        return "unknown", str(reason)
    except Exception as error:  # the independent reader does not check: what it cannot read should have been refused
        difference = f"read, and the independent reader says {type(error).__name__}: {error}"
    return ("wrong", difference) if difference else ("equal", "")


def _measured(call: Callable[[], Any]) -> tuple[Any, Exception | None, float, int]:
    """Answer or error of a call, its seconds of computing, and how many bytes the process had at its largest."""
    _memory("VmRSS", begin=True)
    started = time.process_time()
    answer, problem = None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = call()
    except Exception as error:
        problem = error
    return answer, problem, time.process_time() - started, _memory("VmHWM")


def _memory(name: str, *, begin: bool = False) -> int:
    """Bytes of this process as Linux tells them (0 elsewhere); begin: the peak (VmHWM) is counted from here."""
    with contextlib.suppress(OSError, ValueError):
        if begin:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    return 0


@contextlib.contextmanager
def _worker(
    name: str, numbers: Sequence[int], seed: int, keep: Path | None
) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that judges these mutants one after another; (process, where its outcomes arrive)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="humansd-fuzz-") as folder:
        arguments = (name, TARGETS[name], list(numbers), seed, keep, Path(folder), theirs)
        process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        try:
            try:
                _answer(process, ours, _STARTED_AFTER_S)  # that it has imported what it reads with
            except EOFError:
                raise RuntimeError(f"{name}: the fuzzer's worker does not start") from None
            yield process, ours
        finally:
            process.kill()
            process.join()


def _work(
    name: str, module: str, numbers: list[int], seed: int, keep: Path | None, folder: Path, answers: Connection
) -> None:
    target: Target = importlib.import_module(module).TARGET
    _limit_memory()
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what codecs have to say of damaged images
        os.dup2(sink, stream)
    resting = _memory("VmRSS")
    answers.send(None)
    for number in numbers:
        place = folder / str(number)
        place.mkdir()
        try:
            outcome = centernet(target, number, f"{seed} {name}", place, resting)
        except Exception:
            answers.send(traceback.format_exc())
            raise
        if keep is not None and outcome.kind not in ("refused", "equal", "unknown"):
            with contextlib.suppress(shutil.Error, OSError):  # a pipe cannot be copied
                shutil.copytree(place, keep / f"{name}-{number}", symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(place)
        answers.send(outcome)
    answers.close()


def _limit_memory() -> None:
    """An absurd demand is refused by the system, as MemoryError, before it can take the machine."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = _memory("VmSize") + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
