"""The downloader against a server that misbehaves; every address ends as an image or as a reason, and in time."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
import time
from http.server import ThreadingHTTPServer

import pytest

pytest.importorskip("aiohttp")

from build_makers import image_bytes
from humansd.build import fetch
from humansd.build.fetch import Fetch
from humansd.build.item import Item
from humansd.build.laion import AddressError, LaionOptions, build_laion, read_addresses
from humansd.data.shards import read_shards
from rude_server import SIZE, RudeServer

QUICK = Fetch(timeout_s=1.0, tries=2, pause_s=0.05, max_bytes=1 << 20, private=True, per_host=64)


@pytest.fixture
def server():
    running = RudeServer()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def ask(server, *paths, how=QUICK, **origin):
    urls = [path if "://" in path else f"{server.url}/{path}" for path in paths]
    return how([Item(n, str(n), {"url": url, **origin}) for n, url in enumerate(urls)])


WAYS = {
    "missing/1": ("HTTP 404", False),
    "html/1": ("not an image", False),
    "busy/1": ("HTTP 503", True),
    "never/1": ("no answer in time", True),
    "drip/1": ("no answer in time", True),
    "huge/1": ("too many bytes", False),
    "endless/1": ("too many bytes", False),
    "empty/1": ("an empty answer", True),
    "cut/1": ("the connection broke", True),
    "reset/1": ("the connection broke", True),
    "noai/1": ("not for training, its server says", False),
    "loop/1": ("too many redirects", False),
    "file/1": ("no address", False),
    "http://127.0.0.1:1/x": ("no connection", True),
    "ftp://127.0.0.1/x": ("no address", False),
    "http://user:word@127.0.0.1/x": ("no address", False),
    "http://[broken/x": ("no address", False),
}


def test_every_way_to_misbehave_is_told_and_takes_no_longer_than_two_tries(server):
    started = time.monotonic()
    items = ask(server, *WAYS, "ok/1", "to/to/ok/2", "busyonce/3", "othernoai/4", "garbage/1")
    assert time.monotonic() - started < 4
    for (reason, retry), item in zip(WAYS.values(), items):
        assert (item.origin["url"], item.left_out.reason, item.left_out.retry) == (item.origin["url"], reason, retry)
    good = items[len(WAYS) : len(WAYS) + 4]
    assert [item.data for item in good] == [image_bytes(n, SIZE) for n in (1, 2, 3, 4)]
    assert items[-1].left_out.stage == "fetch"


def test_what_would_unpack_to_a_flood_stays_packed(server):
    (item,) = ask(server, "packed/1")
    assert len(item.data) < 1 << 16


def test_private_addresses_are_refused_however_they_are_written(server):
    port = server.server_address[1]
    hosts = (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
    )
    items = ask(server, *(f"http://{host}:{port}/ok/1" for host in hosts), how=Fetch(tries=1, timeout_s=1))
    assert {item.left_out.reason for item in items} == {"a private address", "neither a name nor an IP address"}
    assert not server.asked


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "127.1", "127.0.1", "0177.0.0.1", "017700000001", "0x7f.1", "0x7f000001", "0X7F.0.0.0x1"),
        *("127.0.0.1.", "127.0.0.0x1", "[::ffff:7f00:1]", "\uff11\uff12\uff17.0.0.1", "127\u30020.0.1", "127.0.0.1:80"),
    ],
)
def test_numbers_that_stand_for_an_address_meet_no_resolver_and_are_refused_before(host):
    with pytest.raises(fetch.FetchError) as error:
        fetch._checked(f"http://{host}/1.jpg", private=False)
    assert error.value.reason in ("a private address", "neither a name nor an IP address")
    fetch._checked(f"http://{host}/1.jpg", private=True)


def test_names_and_public_addresses_pass():
    for host in ("example.com", "1.example.com", "0x7f.example", "127.0.0.1.example", "8.8.8.8", "Caf\u00e9.example"):
        address, checked = fetch._checked(f" http://{host}:80/1.jpg", private=False)
        assert (address, checked.isascii()) == (f"http://{host}:80/1.jpg", True)


def test_redirects_to_private_addresses_are_refused(server, monkeypatch):
    public = fetch._is_public
    monkeypatch.setattr(fetch, "_is_public", lambda address: address == "127.0.0.1" or public(address))
    good, bad = ask(server, "to/ok/1", "inside/1", how=Fetch(tries=1, timeout_s=2))
    assert good.data
    assert bad.left_out.reason == "a private address"


def test_another_image_than_was_listed_is_refused(server):
    digest = hashlib.sha256(image_bytes(1, SIZE)).hexdigest()
    right, wrong = ask(server, "ok/1", "ok/2", sha256=digest)
    assert right.extras["sha256"] == digest
    assert wrong.left_out.reason == "another image than was listed"


def test_a_host_is_asked_a_few_at_a_time(server):
    server.pause = 0.05
    items = ask(server, *(f"ok/{n}" for n in range(24)), how=Fetch(private=True, per_host=3))
    assert all(item.data for item in items)
    assert server.most <= 3


def test_a_redirected_address_waits_for_its_turn_in_nobodys_time(server):
    server.pause = 0.1
    how = Fetch(private=True, per_host=2, timeout_s=1, tries=1)
    items = ask(server, *(f"to/ok/{n}" for n in range(30)), how=how)  # 1.5 s and more for all
    assert [item.left_out for item in items if item.left_out] == []


def test_all_redirects_together_have_the_time_of_one_try(server, monkeypatch):
    async def onwards(self, url):
        await asyncio.sleep(0.2)
        return f"{url}x"

    monkeypatch.setattr(fetch._Client, "_answer", onwards)
    (item,) = ask(server, "ok/1", how=Fetch(private=True, timeout_s=0.5, tries=1))
    assert item.left_out.reason == "no answer in time"


def test_an_entry_without_address_and_an_unforeseen_error_cost_one_item_each(server, monkeypatch):
    check = fetch._check_digest

    def fails(item, data):
        if item.index == 1:
            raise RuntimeError("nobody thought of that")
        check(item, data)

    monkeypatch.setattr(fetch, "_check_digest", fails)
    items = QUICK([Item(n, str(n), {"url": f"{server.url}/ok/{n}"} if n else {}) for n in range(4)])
    reasons = [item.left_out and item.left_out.reason for item in items]
    assert reasons == ["no address", "an unexpected error", None, None]
    assert items[1].left_out.detail == "RuntimeError: nobody thought of that"
    for wrong in ({"tries": 0}, {"per_host": 0}, {"at_once": -1}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            Fetch(**wrong)


def parquet(path, rows):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({name: [row[name] for row in rows] for name in rows[0]}), path)


OPTIONS = LaionOptions(fetch=QUICK, shortest=32, near=3)


def test_a_list_of_addresses_becomes_shards_and_failures_are_asked_again(server, tmp_path):
    server.is_down = True
    urls = [f"{server.url}/ok/{n}" for n in range(20)] + [f"{server.url}/down/{n}" for n in range(40, 46)]
    urls += [f"{server.url}/ok/3#again", f"{server.url}/to/ok/5", f"{server.url}/missing/1", f"{server.url}/broken/1"]
    rows = [{"URL": url, "TEXT": f"a person, {n}", "key": n} for n, url in enumerate(urls)]
    rows[7]["TEXT"], rows[8]["TEXT"], rows[9]["TEXT"] = "a boy", None, "a cowboy"
    parquet(tmp_path / "list.parquet", rows)
    first = build_laion(tmp_path, tmp_path / "out", OPTIONS, per_shard=8, batch_size=8, progress=False)
    assert first["build"]["left_out"] == {
        "caption: none": 1,
        "decode: not a readable image": 1,
        "duplicates: the same address": 1,
        "duplicates: the same image": 1,
        "fetch: HTTP 404": 1,
        "fetch: HTTP 503": 6,
        "minors: the caption speaks of one": 1,
    }
    assert first["count"] == 18
    server.is_down = False
    last = build_laion(tmp_path, tmp_path / "out", OPTIONS, per_shard=8, batch_size=8, progress=False)
    assert last["count"] == 24
    keys = {sample.extras["origin"]["key"] for sample in read_shards(tmp_path / "out")}
    assert keys == {*range(7), *range(9, 26)}
    assert server.asked["/ok/1"] == server.asked["/missing/1"] == 1


def test_an_address_belongs_to_its_first_row_with_a_caption(server, tmp_path):
    rows = [
        (f"{server.url}/ok/1", ""),
        (f"{server.url}/ok/1", "a man"),
        (f"{server.url}/ok/1#top", "another man"),
        (None, "nowhere"),
        (None, "nowhere else"),
        ("cdn.x/2.jpg", "no scheme"),
        ("cdn.x/3.jpg", "no scheme either"),
        ("https://cdn.x/3.jpg?u=http://y/4", "a question"),
        ("https://cdn.x/5.jpg?u=http://y/4", "another question"),
    ]
    parquet(tmp_path / "list.parquet", [{"url": url, "caption": caption} for url, caption in rows])
    listed = read_addresses(tmp_path)
    told = {n: item.left_out.detail for n in range(len(rows)) if (item := listed.item(n)).left_out}
    assert told == {2: "as row 1"}
    few = tmp_path / "few.parquet"
    parquet(few, [{"url": url, "caption": caption} for url, caption in rows[:7]])
    for _ in range(2):  # the second asks for nothing again
        manifest = build_laion(few, tmp_path / "out", OPTIONS, progress=False)
    assert manifest["build"]["left_out"] == {
        "caption: none": 1,
        "duplicates: the same address": 1,
        "fetch: no address": 4,
    }
    assert [sample.caption for sample in read_shards(tmp_path / "out")] == ["a man"]


def test_the_rude_server_of_the_benchmark_ends_alike_whatever_it_does_at_first(tmp_path):
    from humansd.benchmarks.build_works import Rude, make_inputs

    make_inputs(tmp_path / "in", 20)
    serve = functools.partial(Rude, directory=str(tmp_path / "in"))
    running = ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_address[1]}"
    items = [Item(n, str(n), {"url": f"{url}/{n:05d}.jpg"}) for n in range(20)]
    rounds = [Fetch(private=True, pause_s=0.01, timeout_s=5)(items) for _ in range(2)]
    running.shutdown()
    running.server_close()
    for found in rounds:
        reasons = {one.index: one.left_out.reason for one in found if one.left_out}
        assert reasons == {11: "not an image", 13: "not for training, its server says"}
        for one in found:
            assert one.left_out or one.data == (tmp_path / "in" / f"{one.index:05d}.jpg").read_bytes()


def test_a_list_without_addresses_is_refused(tmp_path):
    parquet(tmp_path / "list.parquet", [{"link": "http://x", "caption": "x"}])
    with pytest.raises(AddressError, match="no column 'url'; its columns are link, caption"):
        read_addresses(tmp_path)
    with pytest.raises(AddressError, match="no parquet file"):
        read_addresses(tmp_path / "gone")
