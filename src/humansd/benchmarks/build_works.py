"""What is killed of the commands that build data sets: an import, a list of addresses, a mixture."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from humansd.benchmarks.works import Work, digest_of, forked

COUNT = 60


def make_inputs(folder: Path) -> None:
    """A folder of images with texts, and a COCO list of their poses; in a process of its own, as it loads libraries."""
    folder.mkdir(parents=True)
    images, notes, texts = [], [], []
    for n in range(COUNT):
        coarse = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 72 + n % 5)).save(folder / f"{n:03d}.jpg", quality=90)
        images.append({"id": n, "file_name": f"{n:03d}.jpg", "width": 96, "height": 72 + n % 5})
        points = [v for joint in range(17) for v in (30 + 2 * joint, 10 + 3 * joint, 2)]
        notes.append({"id": n, "image_id": n, "category_id": 1, "keypoints": points})
        texts.append({"image_id": n, "caption": f"somebody, number {n}"})
    (folder / "person_keypoints.json").write_text(json.dumps({"images": images, "annotations": notes}))
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))


def make_addresses(file: Path, url: str) -> None:
    """A parquet list of those images on a server, of a few that are not there, and of some that are listed twice."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    urls = [f"{url}/{n:03d}.jpg" for n in range(COUNT)] + [f"{url}/gone{n}.jpg" for n in range(5)] + [f"{url}/003.jpg"]
    table = {"url": urls, "caption": [f"somebody, number {n}" for n in range(len(urls))]}
    parquet.write_table(arrow.table(table), file)


def _make_all(inputs: Path, addresses: Path, url: str) -> None:
    make_inputs(inputs)
    make_addresses(addresses, url)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


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
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def build_words(inputs: Path, addresses: Path) -> dict[str, Callable[[Path], list[str]]]:
    """Name -> the words of each command that writes a data set into a folder."""
    quick = ["--estimator", "none", "--nsfw", "none", "--per-shard", "7"]
    return {
        "import": lambda to: ["data", "import", str(inputs), "--out", str(to), *quick],
        "laion": lambda to: [
            "data", "build", "laion", str(addresses), "--out", str(to), *quick,
            "--allow-private", "--shortest", "32", "--pause", "0.01", "--per-host", "16",
        ],
        "union": lambda to: [
            "data", "union", f"{inputs.parent / 'mixed'}=2", "--count", "90", "--per-shard", "9", "--out", str(to),
        ],
    }  # fmt: skip


def build_works(attempt: Callable[[list[str]], int | None], out: Path, servers: contextlib.ExitStack) -> list[Work]:
    """The commands that build data sets, with images, addresses and a data set to mix."""
    inputs, addresses = out / "inputs", out / "addresses.parquet"
    url = servers.enter_context(served(out / "inputs"))
    if forked(lambda: _make_all(inputs, addresses, url)) != 0:
        raise ValueError("the images to be imported cannot be made; is pyarrow installed?")
    words = build_words(inputs, addresses)
    if attempt(words["import"](out / "mixed")) != 0:
        raise ValueError("the images cannot be imported; the log beside has what was said")
    found = ("*.tar", "manifest.json", "left-out.jsonl", "README.md")
    return [Work(name, make, lambda to: digest_of(to, *found)) for name, make in words.items()]
