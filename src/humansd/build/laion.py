"""`humansd data build laion`: a list of addresses and captions (parquet, as LAION-Human has it) to shards of people."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humansd.build.fetch import Fetch
from humansd.build.filters import Confidence, HasCaption, Minors, PeopleCount, Quality, Resolution, SafeForWork
from humansd.build.item import Item, Stage
from humansd.build.models import load_models
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.stages import Decode, Encode

_URL, _CAPTION, _KEY = ("url", "URL", "image_url"), ("caption", "TEXT", "text", "prompt"), ("key", "id", "SAMPLE_ID")
_DIGESTS = ("sha256", "md5")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class AddressError(ValueError):
    """A list of addresses that cannot be used; names the file, the column and the remedy."""


@dataclass(frozen=True)
class Addresses:
    """The rows of parquet files, in the order of the files' names. An address that came before with a caption is left
    out."""

    files: tuple[str, ...]
    source: str = "LAION-Human"
    license: str = ""

    def __len__(self) -> int:
        return len(_table(self.files)["url"])

    def item(self, index: int) -> Item:
        table = _table(self.files)
        row = {name: values[index].as_py() for name, values in table.items()}
        row = {name: value if isinstance(value, (str, int, float)) else None for name, value in row.items()}
        origin = {name: value for name, value in row.items() if name != "caption" and value is not None}
        text = _text(row["caption"])
        item = Item(index, f"{index:08d}", origin, caption=text, source=self.source, license=self.license)
        first = _first_places(self.files).get(_same(row["url"]), index)
        if not text or first == index:  # without a caption it is left out for that, by `HasCaption`
            return item
        return item.drop("duplicates", "the same address", f"as row {first}")

    def signature(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
        return {"kind": "addresses", "rows": len(self), "digest": digest.hexdigest()[:32], "license": self.license}


def read_addresses(path: Path | str, license: str = "") -> Addresses:
    """A parquet file, or all below a folder, with columns url and caption (and key, sha256, md5).

    Raises:
        AddressError: there are none, or a column is missing. ImportError: pyarrow is not installed.
    """
    path = Path(path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise AddressError(f"{path}: no parquet file there; name one, or a folder of them")
    found = Addresses(tuple(map(str, files)), license=license)
    if not len(found):
        raise AddressError(f"{path}: holds no row")
    return found


@functools.lru_cache(maxsize=2)
def _table(files: tuple[str, ...]) -> dict[str, Any]:
    """Column -> values of all files; memory: that of the two texts of each row."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError("parquet files need pyarrow; install it: pip install 'humansd[build]'") from None
    tables = []
    for file in files:
        try:
            names = parquet.read_schema(file).names
            wanted = {"url": _named(file, names, _URL), "caption": _named(file, names, _CAPTION)}
            wanted |= dict(_optional(names))
            table = parquet.read_table(file, columns=list(wanted.values()))
        except (arrow.ArrowException, OSError) as error:
            raise AddressError(f"{file}: cannot be read ({error}); fetch it again") from None
        tables.append(arrow.table({new: table[old] for new, old in wanted.items()}))
    whole = arrow.concat_tables(tables, promote_options="permissive")
    return {name: whole[name].combine_chunks() for name in whole.column_names}


def _optional(names: list[str]) -> Iterator[tuple[str, str]]:
    key = next((name for name in _KEY if name in names), None)
    if key:
        yield "key", key
    yield from ((name, name) for name in _DIGESTS if name in names)


def _named(file: str, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise AddressError(f"{file}: has no column {wanted[0]!r}; its columns are {', '.join(names)}")


@functools.lru_cache(maxsize=2)
def _first_places(files: tuple[str, ...]) -> dict[bytes, int]:
    """Digest of each address -> the first row that has it and a caption: one without is not used, and owns nothing."""
    table = _table(files)
    seen: dict[bytes, int] = {}
    for place, (url, caption) in enumerate(zip(table["url"], table["caption"], strict=True)):
        key = _same(url.as_py())
        if key and _text(caption.as_py()):
            seen.setdefault(key, place)
    return seen


def _text(caption: object) -> str:
    return " ".join(caption.replace("\0", " ").split()) if isinstance(caption, str) else ""


def _same(url: object) -> bytes:
    """What two spellings of one address have in common: no fragment, the scheme does not matter. b"": no address."""
    text = _SCHEME.sub("", url.partition("#")[0].strip()) if isinstance(url, str) else ""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest() if text else b""


@dataclass(frozen=True)
class LaionOptions:
    """How addresses become samples. fetch: see `fetch.Fetch`. estimator, weights, device: who finds the people.
    shortest, aspect, contrast, sharpness: see `filters`. confidence: of the surest person, above (the authors of
    HumanSD advise 0.02). most_people: 0 for any number. near: bits of 64 in which the perceptual hashes of duplicates
    may differ. nsfw: a checker, "" for none. minors: captions that speak of minors are left out."""

    fetch: Fetch = field(default_factory=Fetch)
    estimator: str = ""
    weights: str = ""
    device: str = "cpu"
    shortest: int = 256
    aspect: float = 3.0
    max_side: int = 1024
    confidence: float = 0.02
    most_people: int = 0
    near: int = 3
    nsfw: str = ""
    minors: bool = True

    def stages(self) -> list[Stage]:
        """What every address goes through."""
        stages: list[Stage] = [HasCaption(), *([Minors()] if self.minors else []), self.fetch, Decode(self.max_side)]
        stages += [Resolution(self.shortest, self.aspect), Quality()]
        stages += [SafeForWork(self.nsfw)] if self.nsfw else []
        if self.estimator:
            from humansd.build.annotate import Detect

            stages += [Detect(self.estimator, self.weights, self.device)]
            stages += [PeopleCount(most=self.most_people), Confidence(self.confidence)]
        return [*stages, Encode("jpg")]


def build_laion(
    path: Path | str,
    out: Path | str,
    options: LaionOptions,
    *,
    license: str = "",
    per_shard: int = 500,
    batch_size: int = 64,
    engine: str = "local",
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the data set of a list of addresses; the same call goes on after a kill, and once more asks for what
    failed for now where the data set is finished. Returns the manifest. Errors as of `build_dataset`."""
    source = read_addresses(path, license)
    load_models(options)
    about = {
        "name": "People of a list of addresses",
        "source": f"{len(source)} addresses of {source.source}'s form, each image its owner's",
        "license": license or "each image is its owner's; the list gives no right to it",
        "poses": f"found by {options.estimator}" if options.estimator else "none",
    }
    plan = Plan(options.stages(), per_shard=per_shard, batch_size=batch_size, near=options.near, about=about)
    return build_dataset(source, plan, out, engine=engine, workers=workers, progress=progress)
