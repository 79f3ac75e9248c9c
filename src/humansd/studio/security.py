"""Who may ask: names of the server, other pages in the user's browser, API keys, and the size of what is sent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from humansd.studio.errors import StudioError
from humansd.studio.metrics import Metrics
from humansd.studio.settings import StudioSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
OPEN_PATHS = ("/", "/healthz", "/readyz", "/favicon.ico")  # what needs no key; and /static
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def read_keys(file: Path) -> frozenset[str]:
    """Digests of the API keys of a file, one a line, "#" begins a remark. ValueError where none can be used."""
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{file}: holds no API key; write one a line, for example of `openssl rand -hex 24`")
    if min(map(len, keys)) < 16:
        raise ValueError(f"{file}: a key has fewer than 16 letters and could be guessed; make one of 16 or more")
    return frozenset(map(digest, keys))


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Guard:
    """Stands before the application. Sets `scope["state"]["owner"]`, the digest of the key, "" without keys."""

    def __init__(self, app: Any, settings: StudioSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        begun, status = time.monotonic(), 500

        async def answered(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                have = {name.lower() for name, _ in message.get("headers", [])}
                more = [(name, value) for name, value in HEADERS.items() if name not in have]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        body = 0
        try:
            self._check_host(headers)
            self._check_origin(headers, scope)
            scope.setdefault("state", {})["owner"] = self._owner(scope["path"], headers)
            body = self._announced(headers)
            self._bodies += body
            await self.app(scope, self._counted(receive), answered)
        except StudioError as error:
            await _refuse(answered, error)
        finally:
            self._bodies -= body
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.rejected.inc(status == 429)
            self.metrics.request_seconds.labels(route).observe(time.monotonic() - begun)

    def _check_host(self, headers: dict[bytes, str]) -> None:
        """Against DNS rebinding: a page of another name that resolves to this machine sends its own name here."""
        if _name_of(headers.get(b"host", "")) not in self.settings.hosts:
            raise StudioError(
                "this server is not known by the name in the Host header; start it with --allow-host NAME",
                status=403,
                code="host",
            )

    def _check_origin(self, headers: dict[bytes, str], scope: Scope) -> None:
        """Against other pages in the user's browser."""
        refused = StudioError("requests of other pages are refused; see --allow-origin", status=403, code="origin")
        origin = headers.get(b"origin")
        if origin is not None:
            same = origin != "null" and urlsplit(origin).netloc.lower() == headers.get(b"host", "").lower()
            if not same and origin not in self.settings.allowed_origins:
                raise refused
            return
        link = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")  # to the page itself, which is fine
        if origin is None and not link and headers.get(b"sec-fetch-site") in ("cross-site", "same-site"):
            raise refused

    def _owner(self, path: str, headers: dict[bytes, str]) -> str:
        if not self.settings.keys:
            return ""
        found, mine = "", digest(_key_of(headers))
        for known in self.settings.keys:  # all of them, so that the time says nothing
            if hmac.compare_digest(known, mine):
                found = known
        if not found and path not in OPEN_PATHS and not path.startswith("/static/"):
            given = _key_of(headers)
            problem = "the API key given is not one of this server's" if given else "an API key is needed"
            raise StudioError(f"{problem}; send one as `Authorization: Bearer KEY`", status=401, code="api_key")
        return found

    def _announced(self, headers: dict[bytes, str]) -> int:
        try:
            size = int(headers.get(b"content-length", "0"))
        except ValueError:
            raise StudioError("Content-Length is no number") from None
        if b"transfer-encoding" in headers:
            size = self.settings.limits.body_bytes
        elif size > self.settings.limits.body_bytes or size < 0:
            raise self._too_large()
        if size + self._bodies > self.settings.limits.bodies_bytes:
            raise StudioError("too much is being sent at once", status=429, code="busy", retry_after=2)
        return size

    def _counted(self, receive: Receive) -> Receive:
        read, whole, end = 0, False, 0.0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read, whole, end
            end = end or time.monotonic() + self.settings.limits.body_s  # from when it is asked for
            if whole:  # what comes now is that the client left
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body took too long; send it faster") from None
            read += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if read > self.settings.limits.body_bytes:  # FastAPI lets this kind through
                raise HTTPException(413, str(self._too_large()))
            return message

        return counted

    def _too_large(self) -> StudioError:
        most = self.settings.limits.body_bytes / 2**20
        return StudioError(f"the request is larger than {most:g} MiB", status=413, code="too_large")


def _key_of(headers: dict[bytes, str]) -> str:
    """Of a Bearer header, of the password of a Basic one (WebUI's clients), or of X-Api-Key."""
    kind, _, given = headers.get(b"authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return headers.get(b"x-api-key", "")


def _name_of(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


def error_body(message: str, code: str) -> dict[str, Any]:
    """What a client reads of an error: OpenAI's shape, and `detail` as WebUI's clients look for it."""
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": None}
    return {"error": error, "detail": message}


async def _refuse(send: Send, error: StudioError) -> None:
    body = json.dumps(error_body(str(error), error.code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
