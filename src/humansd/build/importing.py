"""`humansd data import`: images of any layout, with poses and captions from the files or from models, as shards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humansd.build.card import CARD
from humansd.build.filters import HasCaption, Minors, PeopleCount, Resolution, SafeForWork
from humansd.build.item import Item, Stage
from humansd.build.layouts.find import Given, read_layout
from humansd.build.layouts.records import LayoutError, Listing, stored_size
from humansd.build.models import load_models
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.shrink import Shrink
from humansd.build.stages import SIDES_APART, Decode, Encode, Read
from humansd.build.writer import LEFT_OUT, SHOWN, left_out_lines
from humansd.data.shards import MANIFEST, only_writer


@dataclass(frozen=True)
class ImportOptions:
    """What is done to the images on their way.

    estimator, weights, device: who finds people in images whose poses no file has (`models.estimators`); "": nobody.
    redetect: the file's poses are not used. captioner, captioner_weights: who describes images without a caption; "":
    nobody, and they are left out. scene, source, license, caption: of samples without one. keep_empty: images with
    nobody in them stay. shortest: px that a side must have. max_side: px to which longer sides are shrunk. downsample:
    by so much all are shrunk then (`shrink`). near: bits of a perceptual hash in which duplicates may differ; None:
    equal pixels alone. nsfw: a checker (`safety`). minors: captions that speak of minors are left out.
    """

    estimator: str = ""
    weights: str = ""
    device: str = "cpu"
    redetect: bool = False
    captioner: str = ""
    captioner_weights: str = ""
    scene: str = ""
    source: str = ""
    license: str = ""
    caption: str = ""
    keep_empty: bool = False
    shortest: int = 64
    max_side: int = 2048
    downsample: int = 1
    near: int | None = None
    nsfw: str = ""
    minors: bool = False

    def stages(self, root: Path, kind: str = "") -> list[Stage]:
        """What every item goes through. kind: of the stored images, see `Encode`."""
        stages: list[Stage] = [Read(str(root)), Decode(self.max_side, str(root))]
        stages += [Shrink(self.downsample)] if self.downsample != 1 else []
        stages += [Resolution(self.shortest, 1e9)]
        if self.estimator or self.captioner:  # they load torch, which the others do without
            from humansd.build.annotate import Caption, Detect

            if self.estimator:
                stages.append(Detect(self.estimator, self.weights, self.device, self.redetect))
            if self.captioner:
                stages.append(Caption(self.captioner, self.captioner_weights, self.device))
        stages += [] if self.keep_empty else [PeopleCount()]
        stages += [HasCaption()]
        stages += [Minors()] if self.minors else []
        stages += [SafeForWork(self.nsfw)] if self.nsfw else []
        return [*stages, Encode(kind)]


@dataclass(frozen=True)
class Labelled:
    """A listing whose items without scene, source, license or caption have those of the options."""

    listing: Listing
    scene: str
    source: str
    license: str
    caption: str = ""

    def __len__(self) -> int:
        return len(self.listing)

    def item(self, index: int) -> Item:
        item = self.listing.item(index)
        return item.but(
            scene=item.scene or self.scene,
            source=item.source or self.source or self.listing.root.resolve().name,
            license=item.license or self.license,
            caption=item.caption if item.caption.strip() else self.caption,
        )

    def signature(self) -> dict[str, Any]:
        named = {"scene": self.scene, "named": self.source, "license": self.license}
        return {**self.listing.signature(), **named, **({"caption": self.caption} if self.caption else {})}


def import_dataset(
    path: Path | str,
    out: Path | str,
    options: ImportOptions | None = None,
    *,
    images: Path | str | None = None,
    given: Given | None = None,
    per_shard: int = 500,
    engine: str = "local",
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Imports what is at `path` into shards in `out` and returns their manifest; the same call goes on after a kill.
    images: where those of a list lie, if not beside it. given: that, poses and more that the files do not say.

    Raises:
        LayoutError: nothing of a known layout, or not one image of it can be used; nothing stays in `out`, so that it
            may be tried otherwise.
        Exception: as of `build_dataset`, `load_estimator` and `load_captioner`.
    """
    options = options or ImportOptions()
    listing = read_layout(path, given=given or Given(images))
    if options.estimator or options.captioner or options.nsfw:
        refuse_unusable(listing, path)
        load_models(options, options.captioner, options.captioner_weights)
    source = Labelled(listing, options.scene, options.source, options.license, " ".join(options.caption.split()))
    known = any(item.people is not None or "npz" in item.origin for item in listing.items)
    poses = "as the source has them" if known and not options.redetect else ""
    detected = f"found by {options.estimator}" if options.estimator else ""
    captions = f"where there was none, written by {options.captioner}" if options.captioner else ""
    given_caption = f"of images without one {options.caption!r}" if options.caption else ""
    about = {
        "name": options.source or listing.root.resolve().name,
        "source": f"{options.source or listing.root.resolve().name} ({listing.layout})",
        "license": _license(options.license, any(item.license for item in listing.items)),
        "poses": "; where there were none, ".join(text for text in (poses, detected) if text),
        "captions": "; ".join(text for text in (given_caption, captions) if text),
        **({"notes": list(listing.notes)} if listing.notes else {}),
    }
    plan = Plan(
        options.stages(listing.root, _stored_kind(listing)), per_shard=per_shard, near=options.near, about=about
    )
    manifest = build_dataset(source, plan, out, engine=engine, workers=workers, progress=progress)
    if not manifest["count"]:
        first = _firsts(out, manifest)
        notes = "".join(f"; {note}" for note in listing.notes)
        _forget(Path(out))
        raise LayoutError(f"{path}: not one sample can be used: {told(manifest)}{first}{notes}")
    return manifest


def _forget(out: Path) -> None:
    """Takes away what a build without a single sample left behind, so that another try need not be as this one was."""
    with only_writer(out):
        for name in (LEFT_OUT, CARD, MANIFEST):
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / SHOWN, ignore_errors=True)


def _firsts(out: Path | str, manifest: Mapping[str, Any]) -> str:
    """The first that was left out for each of the three most frequent reasons, in words."""
    counts: dict[str, int] = manifest["build"]["left_out"]
    wanted = sorted((name for name in counts if name != "caption: none"), key=lambda name: -counts[name])[:3]
    found: dict[str, str] = {}
    for line in left_out_lines(Path(out)):
        name = f"{line['stage']}: {line['reason']}"
        if name in wanted and name not in found:
            file = str(line["origin"].get("file", line["origin"].get("name", "")))
            detail = line["detail"] or "nothing more is known"
            found[name] = detail if file in detail else f"{file}: {detail}"
        if len(found) == len(wanted):
            break
    return "".join(f"; the first of {name!r}: {found[name]}" for name in wanted if name in found)


def _license(given: str, named: bool) -> str:
    """given: of images of which nothing else is said. named: whether some samples name their own."""
    if not named:
        return given
    return f"named by each sample; {given} where none is named" if given else "named by each sample"


def _stored_kind(listing: Listing) -> str:
    """ "jpg" where the source has no other images, else "png", which loses nothing."""
    names = [str(item.origin.get("name", item.origin.get("file", ""))) for item in listing.items if not item.left_out]
    return "jpg" if all(name.lower().endswith((".jpg", ".jpeg")) for name in names) else "png"


def told(manifest: Mapping[str, Any]) -> str:
    """What was left out, in words, with what can be done about it."""
    left_out: dict[str, int] = manifest["build"]["left_out"]
    text = ", ".join(f"{n} x {name}" for name, n in sorted(left_out.items(), key=lambda one: -one[1]))
    remedies = {
        "caption: none": "write captions, give one to all (--caption TEXT), or name a model that writes them "
        "(--captioner transformers=FOLDER)",
        "people: no pose is known": "name an --estimator that finds people, or a file or folder of poses (--poses)",
        "list: the image is missing": "say where the images are (--images DIR)",
        "decode: more than 8 bits a channel": "store images of more than 8 bits with 8",
        "people: nobody": "keep images with nobody in them by --keep-empty, or try another --estimator",
    }
    helps = [remedy for reason, remedy in remedies.items() if left_out.get(reason)]
    return f"{text or 'nothing'}{'; to mend it, ' if helps else ''}{'; '.join(helps)}"


def refuse_unusable(listing: Listing, path: Path | str) -> None:
    """LayoutError where the headers of the images tell that not one item can be used; so no network is loaded for
    them. Ends at the first that can be."""
    faults: dict[str, int] = {}
    first = ""
    for item in listing.items:
        fault = header_fault(item, listing.root)
        if fault is None:
            return
        first = first or f"{fault[0]} ({fault[1]})"
        faults[fault[0]] = faults.get(fault[0], 0) + 1
    if faults:
        counts = ", ".join(f"{count} x {reason}" for reason, count in faults.items())
        raise LayoutError(f"{path}: not one of {len(listing)} images can be used: {counts}; the first: {first}")


def header_fault(item: Item, root: Path) -> tuple[str, str] | None:
    """Why an item will be left out, as far as its image's header tells, and the file; None where it tells nothing."""
    if item.left_out:
        return item.left_out.reason, item.left_out.detail or str(item.origin.get("file", ""))
    if "tar" in item.origin or "file" not in item.origin:
        return None
    file = root / item.origin["file"]
    if not file.is_file():
        return "the image is missing", str(file)
    size = stored_size(file)
    if size is None:
        return "not a readable image", str(file)
    people = item.people
    if people is None or not people.n:
        return None
    canvas = people.canvas
    if all(abs(canvas[0] / canvas[1] / (w / h) - 1) > SIDES_APART for w, h in (size, size[::-1])):
        where = f"{file} has {size[0]} x {size[1]} px, its poses are on {canvas[0]} x {canvas[1]}"
        return "the poses are of another shape than the image", where
    return None
