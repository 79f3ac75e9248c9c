"""A server on this machine that misbehaves in every way it can, for tests of the downloader.

`python rude_server.py` prints its port and serves until it is ended.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from build_makers import image_bytes

SIZE = (96, 64)


class Rude(BaseHTTPRequestHandler):
    """/ok/N is image N; any other first part of the path is a way to misbehave."""

    server: RudeServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        way, _, rest = self.path.strip("/").partition("/")
        with self.server.counting:
            self.server.asked[self.path] += 1
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        self.busy = True
        try:
            getattr(self, f"_{way}", self._missing)(rest)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._done()

    def _done(self) -> None:
        """No longer counts; the client may ask for the next one as soon as it has the last byte."""
        with self.server.counting:
            self.server.now -= self.busy
            self.busy = False

    def _send(self, data: bytes, kind: str = "image/jpeg", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self._done()
        self.wfile.write(data)

    def _ok(self, rest: str) -> None:
        time.sleep(self.server.pause)
        self._send(image_bytes(int(rest), SIZE))

    def _missing(self, rest: str) -> None:
        self._send(b"gone", "text/html", 404)

    def _html(self, rest: str) -> None:
        self._send(b"<html>buy this domain</html>", "text/html")

    def _busy(self, rest: str) -> None:
        self._send(b"later", "text/plain", 503)

    def _busyonce(self, rest: str) -> None:
        self._ok(rest) if self.server.asked[self.path] > 1 else self._busy(rest)

    def _down(self, rest: str) -> None:
        self._busy(rest) if self.server.is_down else self._ok(rest)

    def _never(self, rest: str) -> None:
        time.sleep(30)

    def _drip(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        for _ in range(300):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def _huge(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(10**12))
        self.end_headers()

    def _endless(self, rest: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)

    def _packed(self, rest: str) -> None:
        self._send(gzip.compress(bytes(5 * 10**6)), "image/png", Content_Encoding="gzip")

    def _empty(self, rest: str) -> None:
        self._send(b"")

    def _cut(self, rest: str) -> None:
        data = image_bytes(int(rest), SIZE)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def _reset(self, rest: str) -> None:
        self.connection.close()

    def _garbage(self, rest: str) -> None:
        self.wfile.write(b"\0\1\2 this is not HTTP\r\n\r\n")

    def _broken(self, rest: str) -> None:
        self._send(b"\xff\xd8\xff\xe0 an image, or not")

    def _noai(self, rest: str) -> None:
        self._send(image_bytes(int(rest), SIZE), X_Robots_Tag="noai, noimageai")

    def _othernoai(self, rest: str) -> None:
        self._send(image_bytes(int(rest), SIZE), X_Robots_Tag="otherbot: noai")

    def _to(self, rest: str) -> None:
        self._send(b"", status=302, Location=f"/{rest}")

    def _loop(self, rest: str) -> None:
        self._send(b"", status=301, Location=f"/loop/{int(rest) + 1}")

    def _inside(self, rest: str) -> None:
        self._send(b"", status=302, Location="http://169.254.169.254/latest/meta-data")

    def _file(self, rest: str) -> None:
        self._send(b"", status=302, Location="file:///etc/passwd")


class RudeServer(ThreadingHTTPServer):
    """is_down: what /down/N does. pause: seconds before an image. asked: how often for each path. most: connections at
    once, so far."""

    daemon_threads, block_on_close = True, False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Rude)
        self.is_down, self.pause = False, 0.0
        self.asked: Counter[str] = Counter()
        self.counting = threading.Lock()
        self.now = self.most = 0

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


if __name__ == "__main__":
    server = RudeServer()
    print(server.url, flush=True)
    server.serve_forever()
