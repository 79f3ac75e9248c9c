"""What a client is told when a request cannot be served."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class StudioError(ValueError):
    """A request that is refused. The message names the field and the remedy.

    status: of HTTP, 4xx or 503. code: one word for programs. retry_after: seconds, for 429 and 503.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request", retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class ErrorDetails(BaseModel):
    """What is wrong: `message` names the field and the remedy, `code` is one word for programs."""

    message: str
    type: str
    code: str
    param: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every refusal, in OpenAI's shape. detail: the message again, where WebUI's clients look for it."""

    error: ErrorDetails
    detail: str


def _refusal(what: str, *, retry: bool = False) -> dict[str, Any]:
    later = {"Retry-After": {"description": "Seconds until it is worth asking again.", "schema": {"type": "integer"}}}
    return {"description": what, "model": ErrorAnswer} | ({"headers": later} if retry else {})


# What the routes say of themselves in /openapi.json.
REFUSED: dict[int | str, dict[str, Any]] = {
    400: _refusal("A field that this server does not take; the message names it and the remedy."),
    401: _refusal("An API key is needed, or the one given is not known."),
    413: _refusal("Body or image too large."),
    422: _refusal("A field that cannot be used; the message names it and the remedy."),
    429: _refusal("No room now; ask again after Retry-After.", retry=True),
    503: _refusal("The server is stopping, or its models are still being loaded.", retry=True),
}
NO_JOB: dict[int | str, dict[str, Any]] = {404: _refusal("No such job.")}
NO_MODEL: dict[int | str, dict[str, Any]] = {404: _refusal("No such model.")}
NOT_DRAWN = REFUSED | {
    404: _refusal("No such model or sampler."),
    409: _refusal("Cancelled by another request."),
    504: _refusal("It took too long; /v1/jobs waits longer."),
}


def not_found(what: str) -> StudioError:
    """404 for a job or model that is not there, or belongs to another key."""
    return StudioError(f"{what} is not there", status=404, code="not_found")
