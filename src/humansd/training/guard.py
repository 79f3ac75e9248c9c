"""What to do when a batch spoils the loss: back to the last checkpoint, and past that batch."""

from __future__ import annotations

import json
import logging
import math
import statistics
from pathlib import Path

from humansd.core.files import write_json
from humansd.training.checkpoint import Progress
from humansd.training.settings import LoopSettings

log = logging.getLogger(__name__)

MOST_STOPS = 3
REMEMBERED = 32  # losses that say what is usual


class DivergenceGuard:
    """Watches the loss of a run, and keeps the list of batches that are passed over in `run/skipped.json`."""

    def __init__(self, run: Path, settings: LoopSettings) -> None:
        self._run, self._file, self._factor = run, run / "skipped.json", settings.explode_factor

    def trouble(self, progress: Progress, loss: float, norm: float, *, scaled: bool) -> str:
        """What is wrong with this loss and gradient, in words; "" where nothing is.

        scaled: an infinite gradient is what fp16's loss scaling expects and passes over by itself.
        """
        if not math.isfinite(loss) or (not math.isfinite(norm) and not scaled):
            return f"the loss is {loss}, its gradient {norm}"
        usual = statistics.median(progress.recent) if len(progress.recent) == REMEMBERED else math.inf
        if self._factor and loss > self._factor * usual:
            return f"the loss is {loss:.4g}, {loss / usual:.0f} times the usual {usual:.4g}"
        progress.recent = [*progress.recent, loss][-REMEMBERED:]
        return ""

    def rewind(self, progress: Progress, sample: int, trouble: str) -> Progress:
        """The checkpoint's progress with the batch that begins at `sample` on the list of those to pass over.

        Raises:
            FloatingPointError: it is the third such batch.
        """
        skipped = sorted({*self.skipped(), *progress.skipped, sample})
        if len(skipped) >= MOST_STOPS:
            raise FloatingPointError(
                f"{self._run}: at sample {sample} {trouble}; the third such batch, so it is not the data. The last "
                f"checkpoint (step {progress.step}) is kept: lower learning_rate (a new --out), then train again"
            )
        write_json(self._file, skipped)
        back = f"back to the checkpoint of step {progress.step}, and past that batch"
        log.warning("at sample %d %s; %s", sample, trouble, back)
        progress.skipped = skipped
        return progress

    def skipped(self) -> list[int]:
        """First samples of the batches to pass over."""
        return [int(one) for one in json.loads(self._file.read_text())] if self._file.exists() else []
