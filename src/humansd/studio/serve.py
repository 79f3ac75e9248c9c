"""Starting the studio: what `humansd studio` does."""

from __future__ import annotations

import logging
from collections.abc import Callable

from humansd.studio.settings import StudioSettings


def serve(settings: StudioSettings, say: Callable[[str], object] = lambda line: None) -> None:
    """Serves until SIGINT or SIGTERM; then requests under way have `settings.shutdown_s` to end.

    say: is told in one line where the page is.

    Raises:
        ValueError, OSError: a model that cannot be loaded, a folder or port that another process has, a missing extra.
    """
    try:
        import uvicorn

        from humansd.studio.app import create_app
    except ImportError as error:
        raise ValueError(f"the studio needs {error.name}; install it with: pip install 'humansd[studio]'") from None
    say(f"loading {', '.join(name for name, _ in settings.models)} ...")
    app = create_app(settings)
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
