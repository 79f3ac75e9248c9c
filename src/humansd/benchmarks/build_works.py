"""What is killed of the commands that build data sets: an import, a list of addresses, prompts, a mixture."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from humansd.benchmarks.works import Work, digest_of, forked

COUNT, PAIRS = 60, 3  # images and addresses; pairs of `ghi`, each of which costs some ten images


def make_inputs(folder: Path, count: int) -> None:
    """A folder of images with texts, and a COCO list of their poses; in a process of its own, as it loads libraries."""
    folder.mkdir(parents=True)
    images, notes, texts = [], [], []
    for n in range(count):
        coarse = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 72 + n % 5)).save(folder / f"{n:05d}.jpg", quality=90)
        images.append({"id": n, "file_name": f"{n:05d}.jpg", "width": 96, "height": 72 + n % 5})
        points = [v for joint in range(17) for v in (30 + 2 * joint, 10 + 3 * joint, 2)]
        notes.append({"id": n, "image_id": n, "category_id": 1, "keypoints": points})
        texts.append({"image_id": n, "caption": f"somebody, number {n}"})
    (folder / "person_keypoints.json").write_text(json.dumps({"images": images, "annotations": notes}))
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))


def make_addresses(file: Path, url: str, count: int) -> None:
    """A parquet list of `count` addresses of a server (`Rude`), among them some that are not there and some that are
    listed twice."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    gone, twice = count // 20, count // 20
    urls = [f"{url}/{n:05d}.jpg" for n in range(count - gone - twice)]
    urls += [f"{url}/gone{n}.jpg" for n in range(gone)] + urls[:twice]
    table = {"url": urls, "caption": [f"somebody, number {n}" for n in range(len(urls))]}
    parquet.write_table(arrow.table(table), file)


def _make_all(inputs: Path, addresses: Path, url: str, count: int) -> None:
    make_inputs(inputs, count)
    make_addresses(addresses, url, count)


class Rude(SimpleHTTPRequestHandler):
    """A server of images that misbehaves: by the last digits of an image's number it is busy or breaks off when it is
    asked for the first time, sends elsewhere, is slow, sends another thing, or does not want its images learnt from.

    What it does in the end depends on the address alone, so that a killed and an unbroken run get the same.
    """

    asked: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = Path(self.path.partition("?")[0]).stem
        kind = int(name) % 20 if name.isdigit() else 0
        first = self.path not in self.asked
        self.asked.add(self.path)
        if kind == 3 and first:
            self.send_error(503)
        elif kind == 5 and first:
            self._answer(b"\xff\xd8", "image/jpeg", length=5000)  # and no more than that
        elif kind == 7 and "?" not in self.path:
            self._answer(b"", "text/plain", 302, headers={"Location": f"/{name}.jpg?again"})
        elif kind == 11:
            self._answer(b"<html>not an image</html>", "text/html")
        elif kind == 13:
            self._answer(b"\xff\xd8", "image/jpeg", headers={"X-Robots-Tag": "noai"})
        else:
            time.sleep(0.05 if kind == 9 else 0)
            super().do_GET()

    def _answer(
        self, data: bytes, kind: str, status: int = 200, length: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(length or len(data)), **(headers or {})}
        for key, value in sent.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of that folder, in a process of its own."""
    code = f"from humansd.benchmarks.build_works import serve; serve({str(folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def serve(folder: str) -> None:
    """Prints its address and serves for ever."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Rude, directory=folder))
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def build_words(inputs: Path, addresses: Path, count: int) -> dict[str, Callable[[Path], list[str]]]:
    """Name -> the words of each command that writes a data set into a folder."""
    quick = ["--estimator", "none", "--nsfw", "none", "--per-shard", str(max(7, count // 20))]
    return {
        "import": lambda to: ["data", "import", str(inputs), "--out", str(to), *quick],
        "laion": lambda to: [
            "data", "build", "laion", str(addresses), "--out", str(to), *quick,
            "--allow-private", "--shortest", "32", "--pause", "0.01", "--per-host", "16",
        ],
        "union": lambda to: [
            "data", "union", f"{inputs.parent / 'mixed'}=2", "--count", str(count * 3 // 2),
            "--per-shard", str(max(9, count // 20)), "--out", str(to),
        ],
    }  # fmt: skip


def ghi_words(count: int, to: Path) -> list[str]:
    """The command that makes `count` pairs with the shipped model, in few steps, since most of the time goes there."""
    few = {"steps": 2, "guidance": 1, "share": 1, "pool": 8, "batch": 8, "nsfw": "none", "workers": 2}
    few["per-shard"] = max(1, count // 20)
    options = [word for name, value in few.items() for word in (f"--{name}", str(value))]
    return ["data", "build", "ghi", "--count", str(count), "--model", "pocket", *options, "--out", str(to)]


def build_works(
    attempt: Callable[[list[str]], int | None],
    out: Path,
    servers: contextlib.ExitStack,
    names: Sequence[str],
    count: int = 0,
) -> list[Work]:
    """The commands of these names that build data sets, with images, addresses and a data set to mix.

    count: images, addresses, and pairs of "ghi"; 0: a few.
    """
    files = ("*.tar", "manifest.json", "left-out.jsonl", "README.md")
    pairs = count or PAIRS
    works = [Work("ghi", lambda to: ghi_words(pairs, to), lambda to: digest_of(to, *files))]
    if set(names) == {"ghi"}:
        return works
    count = count or COUNT
    inputs, addresses = out / "inputs", out / "addresses.parquet"
    url = servers.enter_context(served(out / "inputs"))
    if forked(lambda: _make_all(inputs, addresses, url, count)) != 0:
        raise ValueError("the images to be imported cannot be made; is pyarrow installed?")
    words = build_words(inputs, addresses, count)
    if attempt(words["import"](out / "mixed")) != 0:
        raise ValueError("the images cannot be imported; the log beside has what was said")
    works += [Work(name, make, lambda to: digest_of(to, *files)) for name, make in words.items()]
    return [work for work in works if work.name in names]
