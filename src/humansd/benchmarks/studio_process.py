"""A studio as a process of its own, for benchmarks that speak HTTP to it and look at it from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_START_S = 600
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class StudioProcess:
    """A running studio. `start` waits until it takes jobs."""

    def __init__(self, model: str, log: Path, options: Sequence[str] = (), *, watched: Path | None = None) -> None:
        """log: file for what it prints. options: more of `humansd studio`. watched: a file for the names of the files
        that it opens (`benchmarks.watched`)."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        module = ["humansd.cli"] if watched is None else ["humansd.benchmarks.watched", str(watched)]
        command = [sys.executable, "-m", *module, "studio", "--model", model, "--port", str(self.port), *options]
        self.command, self.log = command, log
        self.start()

    def start(self) -> float:
        """Starts it, again after `kill`; the seconds until it was ready.

        Raises:
            ValueError: it ended or did not get ready; the message names the log.
        """
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        while time.monotonic() - begun < _START_S:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/readyz")[0] == 200:
                    return time.monotonic() - begun
            if self.process.poll() is not None:
                raise ValueError(f"the studio ended at once; see {self.log}")
            time.sleep(0.1)
        raise ValueError(f"the studio did not start in {_START_S} s; see {self.log}")

    def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", timeout_s: float = 120
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of an answer; OSError, HTTPException where none comes. body: JSON-able, or bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, sent, {"content-type": kind} if sent is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def counters(self) -> dict[str, float]:
        """Prometheus' samples by name, those of all labels added up."""
        found: dict[str, float] = {}
        for line in self.ask("GET", "/metrics")[1].decode().splitlines():
            if line and not line.startswith("#"):
                name = line.partition(" ")[0].partition("{")[0]
                found[name] = found.get(name, 0.0) + float(line.split()[-1])
        return found

    def cpu_s(self) -> float:
        """Seconds of computing of it and its processes until now; 0 where the system does not tell."""
        return sum(sum(map(int, fields[11:13])) for fields in self._stats()) / _TICKS

    def memory_mb(self) -> float:
        """What it and its processes hold, 0 where the system does not tell."""
        return sum(int(fields[21]) * _PAGE for fields in self._stats()) / 2**20

    def _stats(self) -> Iterator[list[str]]:
        for pid in (self.process.pid, *_children(self.process.pid)):
            with contextlib.suppress(OSError):
                yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_children(child)]
    return found
