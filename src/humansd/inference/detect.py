"""From photographs to pose files: what `humansd pose detect` does, and how `humansd generate` reads a photograph.

photograph -> estimator (`models`) -> `People` -> `pose.formats`, and a drawing over the dimmed photograph.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image
from tqdm import tqdm

from humansd.core.arrays import ImageArray
from humansd.core.files import write_whole
from humansd.data.pixels import jpeg_scans, pixels_of
from humansd.models.estimators import PHOTO_ESTIMATOR, PoseEstimator, load_estimator
from humansd.pose.errors import PoseError
from humansd.pose.formats import write_poses
from humansd.pose.image_sizes import MAX_PIXELS, other_kind
from humansd.pose.images import overlay, resized
from humansd.pose.people import People, fit_box
from humansd.pose.render import looks_like_drawn_skeleton
from humansd.pose.skeleton import COCO17, OPENPOSE18

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TARGETS = {"coco": COCO17, "openpose": OPENPOSE18}
PREVIEW_SIDE = 1280  # px of the longer side, at most
MAX_SCANNED_PIXELS = 2_000_000_000  # of a JPEG, all its scans together
_DIMMED = 0.4
# Not EPS and the like, which start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "ICO")
# EXIF orientation -> what makes the stored image upright.
_UPRIGHT: dict[int, Callable[[ImageArray], ImageArray]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}
_LYING = (5, 6, 7, 8)  # orientations that change width and height


@dataclass(frozen=True)
class Detected:
    """What was found and written.

    estimator: who looked. people: name of each image -> how many people were found in it. poses, previews: the files.
    """

    estimator: str
    people: dict[str, int]
    poses: list[Path]
    previews: list[Path]


def detect_files(
    path: Path | str,
    out: Path | str,
    *,
    estimator: str | PoseEstimator = PHOTO_ESTIMATOR,
    source: str = "",
    to: str = "coco",
    preview: bool = True,
    device: str = "cpu",
    batch_size: int = 8,
    progress: bool = True,
) -> Detected:
    """Finds the people of a photograph, or of all in a folder, and writes their poses to the folder `out`.

    Args:
        estimator: a name in `ESTIMATORS`, loaded from `source` to `device` (`load_estimator`), or an estimator.
        to: "coco" writes all images to `out`/poses.json, "openpose" each to `out`/NAME.json.
        preview: also draws each image's skeletons over it, dimmed and at most `PREVIEW_SIDE` px: `out`/preview.

    Files of these names are replaced. Coordinates are pixels of the upright image (EXIF orientation applied).
    Raises ValueError (PoseError) and OSError naming the file or argument and the remedy; nothing is written then
    but the previews of the images before.
    """
    path, out = Path(path), Path(out)
    if to not in TARGETS:
        raise PoseError(f"is {to!r}", field="to", remedy=f"Choose one of {', '.join(TARGETS)}.")
    files = _named(image_files(path))
    previews = out / "preview"
    if preview and any(file.resolve().parent == previews.resolve() for file in files.values()):
        raise PoseError("previews would be written among the photographs", file=previews, remedy="Choose another out.")
    sizes = [photo_size(file) for file in files.values()]  # so that a bad file shows before the work begins
    seer = load_estimator(estimator, source, device) if isinstance(estimator, str) else estimator
    (previews if preview else out).mkdir(parents=True, exist_ok=True)
    poses: dict[str, People] = {}
    drawn: list[Path] = []
    with tqdm(total=len(files), unit="image", disable=not progress) as bar:
        for names in _batches(list(files), sizes, batch_size):
            images = [read_photo(files[name]) for name in names]
            for name, image, people in zip(names, images, seer.detect(images), strict=True):
                poses[name] = people
                if preview:
                    drawn.append(_write_preview(previews / f"{name}.png", image, people))
            bar.update(len(names))
    written = _write(out, poses, to, files)
    return Detected(seer.name, {name: people.n for name, people in poses.items()}, written, drawn)


def image_files(path: Path) -> list[Path]:
    """The image `path`, or all images of that folder in name order.

    Raises PoseError for a folder without any, FileNotFoundError where nothing is at `path`.
    """
    if path.is_file() or (path.exists() and not path.is_dir()):  # reading says of a pipe what it is
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; name a photograph or a folder of them")
    files = sorted(file for file in path.iterdir() if file.is_file() and is_image(file))
    if not files:
        raise PoseError("no image in this folder", file=path, remedy=f"Put {', '.join(IMAGE_SUFFIXES)} files there.")
    return files


def is_image(file: Path) -> bool:
    """Whether the file's name is that of an image, and not a hidden one."""
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def photo_size(file: Path) -> tuple[int, int]:
    """(width, height) px as stored; PoseError for an unreadable image and one beyond `MAX_PIXELS`."""
    with _opened(file) as image:
        return image.size


def upright_size(file: Path) -> tuple[int, int]:
    """(width, height) px as `read_upright` gives it, as far as what stands before the pixels tells; PoseError as of
    `photo_size`."""
    with _opened(file) as image:
        told = image.format != "PNG" or "exif" in image.info  # behind a PNG's pixels it is hardly ever
        lies = told and image.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
        return image.size[::-1] if lies else image.size


def read_photo(file: Path) -> ImageArray:
    """The upright photograph: uint8 RGB (height, width, 3), on white where it is transparent.

    Takes seven bytes a pixel, 450 MB at most. Raises PoseError as `photo_size` does, and for a drawn skeleton, in which
    an estimator would find anything.
    """
    pixels = read_upright(file)
    if looks_like_drawn_skeleton(pixels):
        raise PoseError(
            "looks like a drawn skeleton",
            file=file,
            remedy="Give it to `humansd generate` with --pose-kind skeleton to use it as it is.",
        )
    return _on_white(file, pixels)


def read_upright(file: Path) -> ImageArray:
    """Any image, upright: uint8 RGB (height, width, 3). PoseError as of `photo_size`."""
    with _opened(file) as image:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        pixels = pixels_of(image)
        image.close()  # frees Pillow's own
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _on_white(file: Path, pixels: ImageArray) -> ImageArray:
    """The upright image as one sees it: where it is transparent, a file may keep any color."""
    with _opened(file) as image:
        if not image.has_transparency_data:
            return pixels
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        over = image.convert("RGBA")
        seen = np.asarray(Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB"))
    return seen if turn is None else np.ascontiguousarray(turn(seen))


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image before a pixel is decoded; PoseError for whatever goes wrong with it, here or inside."""
    if file.exists() and not file.is_file():  # a pipe may wait for ever, a device never end
        raise PoseError("is no file", file=file, remedy="Give a PNG or JPEG file, or a folder of them.")
    try:
        with warnings.catch_warnings():  # Pillow's own limit is a little lower
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise _too_large(file)
                if image.format in ("JPEG", "MPO") and _scans(file) * width * height > MAX_SCANNED_PIXELS:
                    raise PoseError("goes over the image too often", file=file, remedy="Save it anew as PNG or JPEG.")
                yield image
    except (PoseError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise _too_large(file) from None
    except Exception as error:  # damage makes Pillow raise nearly anything
        raise _unreadable(file, error) from error


def _scans(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(jpeg_scans(block) for block in iter(lambda: stream.read(1 << 20), b""))


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Name -> file: the stem, or the whole name where files differ in their ending only."""
    count = Counter(file.stem for file in files)
    names = {file.stem if count[file.stem] == 1 else file.name: file for file in files}
    if len(names) < len(files):
        raise PoseError("two images would have one name", file=files[0].parent, remedy="Rename one of them.")
    return names


def _batches(names: Sequence[str], sizes: Sequence[tuple[int, int]], most: int) -> Iterator[list[str]]:
    """Neighbours, at most `most` of them and, if more than one, `MAX_PIXELS` together."""
    batch: list[str] = []
    pixels = 0
    for name, (width, height) in zip(names, sizes, strict=True):
        if batch and (len(batch) == most or pixels + width * height > MAX_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(name)
        pixels += width * height
    yield batch


def _write(out: Path, poses: dict[str, People], to: str, files: dict[str, Path]) -> list[Path]:
    suited = {name: people.to_skeleton(TARGETS[to]) for name, people in poses.items()}
    if to == "openpose":
        write_poses(out, suited, to)
        return [out / f"{name}.json" for name in suited]
    write_poses(out / "poses.json", suited, to, images={name: {"file_name": file.name} for name, file in files.items()})
    return [out / "poses.json"]


def _write_preview(path: Path, image: ImageArray, people: People) -> Path:
    """The skeletons over the dimmed image, the longer side at most `PREVIEW_SIDE` px, as PNG."""
    width, height = people.canvas
    side = min(PREVIEW_SIDE, max(width, height))
    size = fit_box((width, height), (side, side))[:2]
    shown = overlay(resized(image, size), people.resize(*size), light=_DIMMED)
    encoded = cv2.imencode(".png", np.ascontiguousarray(shown[..., ::-1]))[1]
    write_whole(path, lambda stream: stream.write(encoded.tobytes()))
    return path


def _unreadable(file: Path, error: BaseException) -> PoseError:
    with contextlib.suppress(OSError), file.open("rb") as stream:
        kind = other_kind(stream.read(256))
        if kind:
            return PoseError(f"is {kind}", file=file, remedy="Convert it to PNG or JPEG, or remove it.")
    return PoseError(f"not a readable image ({error})", file=file, remedy="Give a PNG or JPEG file, or remove it.")


def _too_large(file: Path) -> PoseError:
    return PoseError(
        f"is larger than {MAX_PIXELS // 10**6} megapixels", file=file, remedy="Make it smaller, or crop it."
    )
