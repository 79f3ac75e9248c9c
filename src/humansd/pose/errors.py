"""The exceptions and the one warning of this room."""

from __future__ import annotations

from pathlib import Path


class PoseError(ValueError):
    """A pose that cannot be used. The message names the file, the field, the problem and the remedy.

    Attributes: `problem` (what is wrong), `file` and `field` (where; None when unknown) and `remedy`
    (what to do; may be empty).
    """

    def __init__(
        self, problem: str, *, field: str | None = None, file: str | Path | None = None, remedy: str = ""
    ) -> None:
        self.problem = problem.rstrip(". ")
        self.field = field
        self.file = str(file) if file else None
        self.remedy = remedy
        where = ": ".join(part for part in (self.file, self.field) if part)
        text = f"{where}: {self.problem}." if where else f"{self.problem}."
        super().__init__(f"{text} {remedy}".rstrip())

    def at(self, file: str | Path | None, field: str | None = None) -> PoseError:
        """The same error with its file named and `field` put before the field it already has."""
        fields = [part for part in (field, self.field) if part]
        return PoseError(self.problem, field=".".join(fields) or None, file=file, remedy=self.remedy)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _rebuild, (self.problem, self.field, self.file, self.remedy)


def _rebuild(problem: str, field: str | None, file: str | None, remedy: str) -> PoseError:
    return PoseError(problem, field=field, file=file, remedy=remedy)


class PoseWarning(UserWarning):
    """Something in a pose file that was kept as it is but deserves a look."""
