"""Images from addresses: many at once, politely, and with nothing that a stranger's server can do about it.

Every address has a deadline for all it does but wait for its turn, so the last ones take no longer than any other.
Servers are asked a few at a time, again after a pause where they are busy, and not at all where they say that their
images are not for training.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import random
import re
import socket
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from humansd.build.item import Batch, Item, place, together

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

USER_AGENT = "humansd-data/1 (dataset builder; honours X-Robots-Tag: noai)"
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # worth another try
_REFUSED = ("noai", "noimageai", "noindex", "noimageindex")
_CHUNK = 1 << 16
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")  # a label of a host: no domain of the internet ends in one


class FetchError(Exception):
    """Why an address gave no image. retry: it may do so later."""

    def __init__(self, reason: str, detail: str = "", *, retry: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.retry = reason, detail, retry


@dataclass(frozen=True)
class Fetch:
    """The bytes at origin["url"], http or https.

    timeout_s: for one try, all of it. tries: with a pause between that doubles each time, from `pause_s` on. per_host:
    connections to one host at once; at_once: to all. max_bytes: of an image. redirects: that are followed, each
    checked like the first address. private: addresses of private networks and of this machine may be asked. opt_outs:
    headers "X-Robots-Tag" with noai, noimageai, noindex or noimageindex are honoured.

    The wanted digest of origin["sha256"] or origin["md5"], where there is one, must be that of the bytes.
    """

    timeout_s: float = place(20.0)
    tries: int = place(3)
    pause_s: float = place(0.5)
    per_host: int = place(4)
    at_once: int = place(64)
    max_bytes: int = 32 << 20
    redirects: int = 5
    private: bool = False
    opt_outs: bool = True
    waits: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        for name in ("tries", "per_host", "at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def __call__(self, batch: Batch) -> Batch:
        return together(batch, lambda item: item.data is None, self._all)

    def _all(self, items: Sequence[Item]) -> list[Item]:
        return _client(self).fetch(items)


@dataclass(eq=False)
class _Client:
    """The connections of one process, for one `Fetch`; runs on a thread of its own."""

    limits: Fetch

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.hosts: dict[str, asyncio.Semaphore] = {}
        self.all = asyncio.Semaphore(self.limits.at_once)
        self.session = self._wait(self._open())

    def fetch(self, items: Sequence[Item]) -> list[Item]:
        """The items with their bytes, or left out."""
        return self._wait(self._gathered(items))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def _gathered(self, items: Sequence[Item]) -> list[Item]:
        return list(await asyncio.gather(*(self._item(item) for item in items)))

    async def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        resolver = _Resolver(self.limits.private)
        connector = aiohttp.TCPConnector(limit=0, resolver=resolver, ttl_dns_cache=300)
        headers = {"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}
        jar = aiohttp.DummyCookieJar()
        # Nothing is unpacked here: an image does not need it, and a bomb does.
        return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=jar, auto_decompress=False)

    async def _item(self, item: Item) -> Item:
        """The item with its bytes, or left out: whatever one address does, the others go on."""
        try:
            return await self._tried(item)
        except Exception as error:
            return item.drop("fetch", "an unexpected error", f"{type(error).__name__}: {error}", retry=True)

    async def _tried(self, item: Item) -> Item:
        pause = self.limits.pause_s
        jitter = random.Random(item.index)  # so that not all that failed together come again together
        for left in reversed(range(self.limits.tries)):
            try:
                data = await self._once(item.origin.get("url"))
                _check_digest(item, data)
                return item.but(data=data, extras={**item.extras, "sha256": hashlib.sha256(data).hexdigest()})
            except FetchError as error:
                if not (error.retry and left):
                    return item.drop("fetch", error.reason, error.detail, retry=error.retry)
            await asyncio.sleep(pause * jitter.uniform(0.5, 1))
            pause *= 2
        raise AssertionError("the last try returns")

    async def _once(self, url: object) -> bytes:
        """One try with all its redirects, within the time."""
        import aiohttp

        left = self.limits.timeout_s
        try:
            for _ in range(self.limits.redirects + 1):
                address, host = _checked(url, self.limits.private)
                slot = self.hosts.setdefault(host, asyncio.Semaphore(self.limits.per_host))
                async with slot, self.all:  # so that those who wait for a host keep nobody else waiting
                    began = self.loop.time()  # waiting for one's turn takes nothing from the time, after a redirect too
                    async with asyncio.timeout(left):
                        found = await self._answer(address)
                    left -= self.loop.time() - began
                if isinstance(found, bytes):
                    return found
                url = found
            raise FetchError("too many redirects", str(url))
        except TimeoutError:
            raise FetchError("no answer in time", retry=True) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _PrivateAddress):
                raise FetchError("a private address", str(error.os_error)) from None
            raise FetchError("no connection", str(error), retry=True) from None
        except (aiohttp.InvalidURL, aiohttp.ClientResponseError) as error:
            raise FetchError("no proper answer", f"{type(error).__name__}: {error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError("the connection broke", f"{type(error).__name__}: {error}", retry=True) from None

    async def _answer(self, url: str) -> bytes | str:
        """The image, or where else it is said to be."""
        async with self.session.get(url, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                return urljoin(url, response.headers.get("Location", ""))
            if response.status != 200:
                raise FetchError(f"HTTP {response.status}", retry=response.status in _BUSY)
            if self.limits.opt_outs and _opted_out(response.headers.getall("X-Robots-Tag", [])):
                raise FetchError("not for training, its server says")
            kind = response.content_type.lower()
            if not kind.startswith("image/") and kind not in ("application/octet-stream", "binary/octet-stream"):
                raise FetchError("not an image", kind)
            if "svg" in kind:
                raise FetchError("not an image of pixels", kind)
            return await self._body(response)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """At most `max_bytes`, counted as they come, unpacked: what a header promises is no limit."""
        most, data = self.limits.max_bytes, bytearray()
        if (response.content_length or 0) > most:
            raise FetchError("too many bytes", f"{response.content_length}, at most {most}")
        async for chunk in response.content.iter_chunked(_CHUNK):
            data += chunk
            if len(data) > most:
                raise FetchError("too many bytes", f"at most {most}")
        if not data:
            raise FetchError("an empty answer", retry=True)
        return bytes(data)


class _PrivateAddress(OSError):
    """A name that stands for an address of a private network."""


def _Resolver(private: bool) -> Any:  # a class, made where aiohttp is there
    """Looks a host up once and lets only public addresses through: what was checked is what is connected to."""
    from aiohttp.resolver import ThreadedResolver

    class Resolver(ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            found = await super().resolve(host, port, family)
            if not private and not all(_is_public(one["host"]) for one in found):
                raise _PrivateAddress(f"{host} is {found[0]['host']}")
            return found

    return Resolver()


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not (mapped or ip).is_multicast


def _checked(url: object, private: bool) -> tuple[str, str]:
    """The address and its host. An address in numbers may never meet the resolver, so it is checked here."""
    from yarl import URL

    if not isinstance(url, str) or len(url) > 4096:
        raise FetchError("no address")
    try:
        parts = urlsplit(url.strip())
        host = URL(url.strip()).raw_host or ""  # as it is connected to: digits of other scripts are plain ones here
        _ = parts.port
    except ValueError:
        raise FetchError("no address", url[:200]) from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise FetchError("no address", url[:200])
    host = host.lower()
    try:
        if not private and not _is_public(host):
            raise FetchError("a private address", host)
    except ValueError:  # a name; the resolver looks at what it stands for
        # Some releases of aiohttp take 127.1 or 2130706433 for an IP address, and the system's resolver 0x7f.1 too.
        if not private and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise FetchError("neither a name nor an IP address", host) from None
    return url.strip(), host


def _opted_out(tags: Sequence[str]) -> bool:
    """Whether a header says so to everyone, or to us ("otherbot: noai" does not)."""
    for tag in tags:
        agent, colon, rest = tag.partition(":")
        words = rest if colon and agent.strip().lower() in ("humansd", "humansd-data", "*") else tag
        if any(word.strip().lower() in _REFUSED for word in words.split(",")):
            return True
    return False


def _check_digest(item: Item, data: bytes) -> None:
    for name in ("sha256", "md5"):
        wanted = item.origin.get(name)
        if isinstance(wanted, str) and wanted:
            found = hashlib.new(name, data, usedforsecurity=False).hexdigest()
            if found != wanted.lower():
                raise FetchError("another image than was listed", f"{name} {found}")


_clients: dict[Fetch, _Client] = {}
_clients_lock = threading.Lock()


def _client(limits: Fetch) -> _Client:
    """The one of this process, so that limits hold for all its batches together."""
    with _clients_lock:
        if limits not in _clients:
            try:
                import aiohttp  # noqa: F401
            except ImportError:
                raise ImportError("addresses need aiohttp; install it: pip install 'humansd[build]'") from None
            _clients[limits] = _Client(limits)
        return _clients[limits]
