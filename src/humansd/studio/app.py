"""The application: engine, guard, routes and page put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from humansd import __version__
from humansd.core.lock import locked
from humansd.studio import field_errors, routes_generate, routes_openai, routes_poses, routes_webui, routes_webui_lists
from humansd.studio.engine import Engine
from humansd.studio.errors import StudioError
from humansd.studio.security import OPEN_PATHS, Guard, Receive, Scope, Send, error_body
from humansd.studio.settings import StudioSettings
from humansd.studio.wishes import GenerateRequest

log = logging.getLogger(__name__)
_THREADS = 16  # that check requests and decode images at once; each may hold a decoded image
_LOOK_S = 0.05  # how often it is asked whether the models are there
_BARE = {  # what Starlette and FastAPI say by themselves: ours
    "Not Found": "there is nothing at this address; GET /openapi.json lists what there is",
    "Method Not Allowed": "this address has no such method; GET /openapi.json lists those there are",
    "There was an error parsing the body": "the body cannot be read as JSON; it may be nested too deeply",
}
_KEY = HTTPBearer(auto_error=False, description="A key of the server's file, as `Authorization: Bearer KEY`.")


def create_app(
    settings: StudioSettings,
    engine: Engine | None = None,
    on_loaded: Callable[[Exception | None], object] | None = None,
) -> FastAPI:
    """The studio as an ASGI application.

    engine: one that has not loaded its models does so while the page is served already, and requests that need a model
    wait. Default: a new one, loaded here. on_loaded: is told once that the models are ready, or why they are not.

    Errors as of `Engine` and `Engine.load`.
    """
    if engine is None:
        engine = Engine(settings)
        engine.load()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        with contextlib.ExitStack() as stack:
            if settings.state:
                stack.enter_context(locked(settings.state, "a studio's jobs"))
            if engine.loaded:
                await anyio.to_thread.run_sync(_start, engine)
            loading = asyncio.create_task(_load(engine, on_loaded))
            yield
            engine.stopping()
            await anyio.to_thread.run_sync(engine.close, settings.shutdown_s)
            await loading

    app = FastAPI(
        title="humansd studio",
        version=__version__,
        description="Images of people in given poses. The studio's own API, OpenAI's images, and WebUI's.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts of other hosts
        redoc_url=None,
    )
    app.state.engine = engine
    _add_errors(app)
    keyed = [Depends(_KEY)] if settings.keys else []  # for the schema alone; `Guard` asks for the key
    for module in (routes_generate, routes_poses, routes_openai, routes_webui, routes_webui_lists):
        app.include_router(module.router, dependencies=keyed)
    _add_service(app, engine, keyed)
    _add_page(app)
    app.add_middleware(Gate, engine=engine)
    app.add_middleware(Guard, settings=settings, metrics=engine.metrics)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["*"], allow_headers=["*"]
        )
    if not settings.log_prompts:
        warnings.filterwarnings("ignore", message="the prompt is longer")  # it says a part of the prompt
    return app


def _start(engine: Engine) -> None:
    if again := engine.start():
        log.info("%d jobs of an earlier run are drawn again", again)


async def _load(engine: Engine, on_loaded: Callable[[Exception | None], object] | None) -> None:
    failed: list[Exception] = []

    def load() -> None:
        try:
            engine.load()
            _start(engine)
        except Exception as error:
            failed.append(error)

    if not engine.started:
        thread = threading.Thread(target=load, name="studio-load", daemon=True)  # who stops does not wait for it
        thread.start()
        while thread.is_alive():
            if engine.queue.closed:
                return
            await asyncio.sleep(_LOOK_S)
    if engine.queue.closed:  # stopped meanwhile, which no longer is a mistake of loading
        return
    if failed:
        engine.queue.close()  # whoever waits is answered
    if on_loaded is None and failed:
        log.error("the models cannot be loaded: %s", failed[0])
    if on_loaded is not None:
        with contextlib.suppress(OSError):  # nobody reads what is printed
            on_loaded(failed[0] if failed else None)


class Gate:
    """Lets requests wait that come while the models are being loaded, so that no client has to ask twice, and refuses
    new work while the server stops; what there is may be asked for until the end."""

    STILL = ("/sdapi/v1/interrupt",)
    NO_MODEL = ("/static/", "/v1/poses/", "/openapi.json", "/metrics", "/v1/studio")

    def __init__(self, app: Any, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.engine.is_stopping and self._is_work(scope):
            raise _stopping()
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not scope["path"].startswith(self.NO_MODEL):
            end = time.monotonic() + self.engine.settings.limits.sync_s
            while not self.engine.started and not self.engine.queue.closed:
                if time.monotonic() > end:
                    raise StudioError("the models are still being loaded", status=503, code="loading", retry_after=10)
                await asyncio.sleep(_LOOK_S)
            if not self.engine.started:
                raise _stopping()
        await self.app(scope, receive, send)

    def _is_work(self, scope: Scope) -> bool:
        return scope["method"] not in ("GET", "HEAD", "DELETE") and scope["path"] not in self.STILL


def _stopping() -> StudioError:
    return StudioError("the server is stopping; ask again soon", status=503, code="stopping", retry_after=10)


def _add_service(app: FastAPI, engine: Engine, keyed: Sequence[Any]) -> None:
    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers: "ok", or "stopping" while it ends."""
        return {"status": "stopping" if engine.is_stopping else "ok"}

    @app.get("/readyz", tags=["service"], responses={503: {"description": "Not ready."}})
    async def readyz() -> Response:
        """Whether jobs are taken: "ready", "not ready", or "stopping"."""
        status = "stopping" if engine.is_stopping else "ready" if engine.ready else "not ready"
        return JSONResponse({"status": status}, 200 if engine.ready else 503)

    @app.get("/metrics", tags=["service"], response_class=PlainTextResponse, dependencies=keyed)
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    static = Path(str(resources.files("humansd.studio"))) / "static"

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(static / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/static", StaticFiles(directory=static), name="static")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(StudioError)
    async def refused(request: Request, error: StudioError) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return JSONResponse(error_body(_plain(str(error)), error.code), error.status, headers)

    @app.exception_handler(ValueError)
    async def wrong(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse(error_body(_plain(" ".join(str(error).split())), "bad_request"), 422)

    @app.exception_handler(ValidationError)  # of a request that a route makes of a form, or of another API's fields
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        told = field_errors.told(error.errors(), GenerateRequest.model_fields)
        return JSONResponse(error_body(_plain(told), "invalid"), 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        told = _BARE.get(str(error.detail), str(error.detail))
        return JSONResponse(error_body(_plain(told), "http"), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(f"the server made a mistake ({type(error).__name__})", "internal"), 500)


def _plain(text: str) -> str:
    """Without half letter pairs, which no answer can carry; not longer than a message should be."""
    return text.encode("utf-8", "replace").decode()[:2000]
