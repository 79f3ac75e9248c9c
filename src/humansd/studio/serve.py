"""Starting the studio: what `humansd studio` does."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

from humansd.studio.process import DrawingProcess
from humansd.studio.settings import StudioSettings

_NEEDS = ("fastapi", "prometheus_client", "multipart", "uvicorn")


def serve(
    settings: StudioSettings,
    say: Callable[[str], object] = lambda line: None,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM; then what is drawn has `settings.shutdown_s` to end and to be fetched, while new
    work is refused. A second signal ends it at once.

    say: is told in a line where the page is, and in another when the models are ready. prepare: a function of a module,
    which each drawing process calls first.

    Raises:
        ValueError, OSError, RuntimeError: a model that cannot be loaded, a folder or port that another process has, a
            missing extra.
    """
    missing = next((name for name in _NEEDS if importlib.util.find_spec(name) is None), None)
    if missing:
        raise ValueError(f"the studio needs {missing}; install it with: pip install 'humansd[studio]'")
    taken = _taken_port(settings)
    # They load their models while this process serves the page already.
    own = settings.own_processes and not settings.ray
    processes = [DrawingProcess(settings, device, prepare) for device in settings.devices] if own else []
    try:
        with taken:
            _serve(settings, processes, taken, say)
    finally:  # they hear no signal themselves
        for process in processes:
            process.end()


def _serve(
    settings: StudioSettings, processes: list[DrawingProcess], taken: socket.socket, say: Callable[[str], object]
) -> None:
    import uvicorn

    from humansd.studio.app import create_app
    from humansd.studio.engine import Engine

    failed: list[Exception] = []

    def loaded(error: Exception | None) -> None:
        if error is None:
            say(f"ready to draw with {names}")
        else:
            failed.append(error)
            server.should_exit = True

    engine = Engine(settings, processes)
    app = create_app(settings, engine, loaded)
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
    names, port = ", ".join(dict(settings.models)), taken.getsockname()[1]
    say(f"the studio is at http://{_shown(settings.host)}:{port}   (stop with Ctrl+C); loading {names} ...")

    class Server(uvicorn.Server):
        """Answers until the engine has nothing more to do; a second signal ends the process."""

        async def on_tick(self, counter: int) -> bool:
            if not await super().on_tick(counter):
                return False
            engine.stopping()
            return engine.may_leave

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            engine.stopping()  # a signal may come before the first tick
            # who still waits is told so before connections are closed: they would keep it else
            self.config.timeout_graceful_shutdown = int(engine.leave()) + 1
            await super().shutdown(sockets)

        asked = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.asked:
                for process in processes:
                    process.end()
                signal.signal(sig, signal.SIG_DFL)
                signal.raise_signal(sig)
            self.asked = True
            super().handle_exit(sig, frame)

    server = Server(config)
    server.run([taken])
    if failed:
        raise failed[0]


def _taken_port(settings: StudioSettings) -> socket.socket:
    """A socket that nobody else has. OSError with the remedy where somebody does."""
    here = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    if os.name == "posix":  # on Windows this would take a port that is in use
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        here.bind((settings.host, settings.port))
        here.listen(2048)
    except (OSError, OverflowError) as error:
        here.close()
        why = getattr(error, "strerror", None) or error
        raise OSError(
            f"--host {settings.host} --port {settings.port} cannot be opened ({why}); give another --port, or stop "
            "what has it"
        ) from None
    return here


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
