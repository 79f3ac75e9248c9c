"""What a client is told when a request cannot be served."""

from __future__ import annotations


class StudioError(ValueError):
    """A request that is refused. The message names the field and the remedy.

    status: of HTTP, 4xx or 503. code: one word for programs. retry_after: seconds, for 429 and 503.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request", retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


def not_found(what: str) -> StudioError:
    """404 for a job or model that is not there, or belongs to another key."""
    return StudioError(f"{what} is not there", status=404, code="not_found")
