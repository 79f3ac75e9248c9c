"""Starting the studio: what `humansd studio` does."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

from humansd.studio.process import DrawingProcess
from humansd.studio.settings import StudioSettings

_NEEDS = ("fastapi", "prometheus_client", "multipart", "uvicorn")


def serve(
    settings: StudioSettings,
    say: Callable[[str], object] = lambda line: None,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; then requests under way have `settings.shutdown_s` to end.

    say: is told in one line where the page is. prepare: a function of a module, which each drawing process calls first.

    Raises:
        ValueError, OSError: a model that cannot be loaded, a folder or port that another process has, a missing extra.
    """
    missing = next((name for name in _NEEDS if importlib.util.find_spec(name) is None), None)
    if missing:
        raise ValueError(f"the studio needs {missing}; install it with: pip install 'humansd[studio]'")
    say(f"loading {', '.join(dict(settings.models))} ...")
    # They load their models while this process imports what it needs itself.
    own = settings.own_processes and not settings.ray
    processes = [DrawingProcess(settings, device, prepare) for device in settings.devices] if own else []

    import uvicorn

    from humansd.studio.app import create_app
    from humansd.studio.engine import Engine

    app = create_app(settings, Engine(settings, processes))
    logging.getLogger("humansd").setLevel(logging.INFO)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,  # a path says what a client asked for
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_s) + 1,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=64 * 1024,
    )
    say(f"the studio is at http://{_shown(settings.host)}:{settings.port}   (stop with Ctrl+C)")
    uvicorn.Server(config).run()


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
