"""The application: engine, guard, routes and page put together."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from humansd import __version__
from humansd.core.lock import locked
from humansd.studio import routes_generate, routes_openai, routes_poses, routes_webui
from humansd.studio.engine import Engine
from humansd.studio.errors import StudioError
from humansd.studio.security import Guard, error_body
from humansd.studio.settings import StudioSettings

log = logging.getLogger(__name__)
_THREADS = 16  # that check requests and decode images at once; each may hold a decoded image


def create_app(settings: StudioSettings, engine: Engine | None = None) -> FastAPI:
    """The studio as an ASGI application. Loads the models here, so that a mistake shows before anything is served.

    Errors as of `Engine`.
    """
    engine = engine or Engine(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        with contextlib.ExitStack() as stack:
            if settings.state:
                stack.enter_context(locked(settings.state, "a studio's jobs"))
            again = engine.start()
            if again:
                log.info("%d jobs of an earlier run are drawn again", again)
            yield
            await anyio.to_thread.run_sync(engine.close, settings.shutdown_s)

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
    for module in (routes_generate, routes_poses, routes_openai, routes_webui):
        app.include_router(module.router)
    _add_service(app, engine)
    _add_page(app)
    app.add_middleware(Guard, settings=settings, metrics=engine.metrics)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["*"], allow_headers=["*"]
        )
    if not settings.log_prompts:
        warnings.filterwarnings("ignore", message="the prompt is longer")  # it says a part of the prompt
    return app


def _add_service(app: FastAPI, engine: Engine) -> None:
    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], responses={503: {"description": "Not ready."}})
    async def readyz() -> Response:
        """Whether jobs are taken."""
        return JSONResponse({"status": "ready" if engine.ready else "not ready"}, 200 if engine.ready else 503)

    @app.get("/metrics", tags=["service"], response_class=PlainTextResponse)
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

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}".lstrip(": ") for one in error.errors()[:5]]
        return JSONResponse(error_body(_plain("; ".join(lines)), "invalid"), 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(_plain(str(error.detail)), "http"), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(f"the server made a mistake ({type(error).__name__})", "internal"), 500)


def _plain(text: str) -> str:
    """Without half letter pairs, which no answer can carry; not longer than a message should be."""
    return text.encode("utf-8", "replace").decode()[:2000]
