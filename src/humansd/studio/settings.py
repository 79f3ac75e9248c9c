"""What a studio is started with."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may ask for.

    body_bytes: of one request; bodies_bytes: of all that are being read or answered.
    image_pixels: of an image that is decoded, asked before decoding. side: px of a result; pixels: of a result.
    prompt: letters. queue: images that wait or are drawn, of all keys; queue_per_key: of one.
    batch: images that are drawn at once. body_s: a client may take to send its body.
    sync_s: how long a client that waits is kept; queue_s: how long a job may wait; draw_s: how long a batch may take.
    keep_s: how long results are kept; fetched_s: how long after they were fetched, so that a broken answer can be
    asked for once more.
    """

    body_bytes: int = 16 * 2**20
    bodies_bytes: int = 256 * 2**20
    image_pixels: int = 16_000_000
    side: int = 1536
    pixels: int = 1024 * 1024
    people: int = 50
    steps: int = 150
    count: int = 16
    prompt: int = 4000
    queue: int = 256
    queue_per_key: int = 64
    batch: int = 8
    body_s: float = 60.0
    sync_s: float = 300.0
    queue_s: float = 3600.0
    draw_s: float = 600.0
    keep_s: float = 3600.0
    fetched_s: float = 30.0

    @property
    def most_images(self) -> int:
        """That one request may ask for; more would find no room, however long it waits."""
        return min(self.count, self.queue, self.queue_per_key)


@dataclass(frozen=True)
class StudioSettings:
    """A studio's settings.

    models: (name that clients use, what `load_pipeline` takes), the first is the default; one name more than once is a
    model with several methods. networks: (name of a model, method, folder or hub id of the method's network), which
    the first source of that name, a plain Stable Diffusion, is conditioned by as well. devices: one worker each.
    own_processes: each worker draws in a process of its own. ray: so many replicas draw through Ray Serve instead.
    content_filter: of `content.FILTERS`.
    state: folder of the jobs; "" keeps nothing over a restart. keys: SHA-256 digests of the API keys; none: no key is
    asked for. allowed_hosts: names by which the server may be called; allowed_origins: of other pages that may call it.
    log_prompts: prompts in the log, off by default.
    """

    models: tuple[tuple[str, str], ...] = (("pocket", "pocket"),)
    networks: tuple[tuple[str, str, str], ...] = ()
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8188
    state: str = ""
    keys: frozenset[str] = frozenset()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    estimator: str = ""
    estimator_source: str = ""
    content_filter: str = "auto"
    own_processes: bool = False
    ray: int = 0
    log_prompts: bool = False
    shutdown_s: float = 20.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("no model is named; give --model, for example --model pocket")
        if len(set(self.models)) < len(self.models):
            raise ValueError("a model is named twice; leave one --model out")
        for name, method, _ in self.networks:
            if name not in dict(self.models):
                raise ValueError(f"--method {name}:{method}: no --model has the name {name!r}")
        if not self.keys and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host} is seen by other machines, and no API key is set; name a file of keys with "
                "--api-key-file, or leave --host out to serve this machine alone"
            )

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that the Host header may have, without the port."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host.lower(),)
        return (*LOOPBACK_NAMES, *own, *(name.lower() for name in self.allowed_hosts))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_state() -> Path:
    """Where jobs are kept unless the user names another folder."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "humansd" / "studio"
