"""What the rooms log, as the command line shows it."""

from __future__ import annotations

import logging
import sys


class ShownLogs(logging.Handler):
    """What is done goes to stdout, as it is; what should be known goes to stderr as a note.

    Of the studio, which tells of every request, only what went wrong, as it is.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        worrying = record.levelno >= logging.WARNING
        if record.name.startswith("humansd.studio"):
            if worrying:
                print(self.format(record), file=sys.stderr)
        elif worrying:
            print(f"humansd: note: {self.format(record)}", file=sys.stderr)
        else:
            print(self.format(record))


_SHOWN = ShownLogs()


def show_logs() -> None:
    """From now on; a second call changes nothing."""
    log = logging.getLogger("humansd")
    log.addHandler(_SHOWN)
    log.setLevel(logging.INFO)
