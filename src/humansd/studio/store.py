"""Accepted jobs and their results in SQLite, so that a kill loses none."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, request TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', error TEXT NOT NULL DEFAULT '', finished REAL, fetched REAL
);
CREATE TABLE IF NOT EXISTS results (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, number INTEGER NOT NULL, png BLOB NOT NULL,
    PRIMARY KEY (job, number)
);
"""


@dataclass(frozen=True)
class StoredJob:
    """A row. request: `GenerateRequest` as JSON. finished, fetched: seconds since 1970, or None."""

    id: str
    owner: str
    created: float
    request: str
    state: str
    error: str
    finished: float | None
    fetched: float | None


class Store:
    """The database of one studio. All methods may be called from any thread; each is one transaction."""

    def __init__(self, path: Path | None) -> None:
        """path: None keeps everything in memory. Deleted rows are overwritten with zeros."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)

    def add(self, id: str, owner: str, created: float, request: str) -> None:
        """A job that is accepted when this returns."""
        with self._lock:
            self._db.execute(
                "INSERT INTO jobs (id, owner, created, request) VALUES (?, ?, ?, ?)", (id, owner, created, request)
            )

    def finish(self, id: str, state: str, error: str = "", pngs: Sequence[bytes] = ()) -> None:
        """Its end, with its images, all at once."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                self._db.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", [(id, i, png) for i, png in enumerate(pngs)]
                )
                self._db.execute(
                    "UPDATE jobs SET state = ?, error = ?, finished = ? WHERE id = ?", (state, error, time.time(), id)
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def get(self, id: str) -> StoredJob | None:
        """The row, or None."""
        with self._lock:
            row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (id,)).fetchone()
        return None if row is None else StoredJob(*row)

    def unfinished(self) -> list[StoredJob]:
        """Those that an earlier run accepted and did not finish, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM jobs WHERE finished IS NULL ORDER BY created").fetchall()
        return [StoredJob(*row) for row in rows]

    def unfetched(self, since: float) -> int:
        """Jobs that were done since then (seconds since 1970) and whose images nobody has fetched."""
        with self._lock:
            row = self._db.execute(
                "SELECT COUNT(*) FROM jobs WHERE state = 'done' AND finished >= ? AND fetched IS NULL", (since,)
            ).fetchone()
        return int(row[0])

    def results(self, id: str) -> list[bytes]:
        """PNG of each image."""
        with self._lock:
            rows = self._db.execute("SELECT png FROM results WHERE job = ? ORDER BY number", (id,)).fetchall()
        return [row[0] for row in rows]

    def mark_fetched(self, id: str) -> None:
        """Its images were sent to the client."""
        with self._lock:
            self._db.execute(
                "UPDATE jobs SET fetched = ? WHERE id = ? AND fetched IS NULL",
                (time.time(), id),
            )

    def delete(self, id: str) -> None:
        """The job and its images."""
        with self._lock:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (id,))

    def sweep(self, keep_s: float, fetched_s: float) -> int:
        """Deletes what is finished for `keep_s` or fetched for `fetched_s`; how many jobs."""
        now = time.time()
        with self._lock:
            gone = self._db.execute(
                "DELETE FROM jobs WHERE finished < ? OR fetched < ?", (now - keep_s, now - fetched_s)
            ).rowcount
            if gone:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def close(self) -> None:
        """No more calls after this."""
        with self._lock:
            self._db.close()
