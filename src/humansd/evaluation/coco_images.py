"""The images of a COCO file, held against what it says of them from their headers, before any network runs."""

from __future__ import annotations

from pathlib import Path

from humansd.inference.detect import photo_size
from humansd.pose.errors import PoseError
from humansd.pose.formats import read_image_records


def check_coco_images(data: Path, images: Path | None, limit: int = 0) -> None:
    """Whether the images that a COCO file names are in the folder `images`, readable, and as large as it says.

    limit: the first so many of them; 0 = all.

    Raises:
        PoseError: names the first image with a fault of a kind, and how many have it.
    """
    if images is None:
        raise PoseError("the images of a COCO file are needed too", file=data, remedy="Name their folder: --images.")
    if not images.is_dir():
        raise PoseError("is no folder", file=images, remedy="Name the folder of the images: --images.")
    records = list(read_image_records(data).values())[: limit or None]
    missing = [one for one in records if not (images / str(one["file_name"])).is_file()]
    if missing:
        raise PoseError(
            f"{len(missing)} of {len(records)} images are not in {images}; the first: {missing[0]['file_name']}",
            file=data,
            field="images",
            remedy="Name their folder with --images, or remove their entries.",
        )
    other = []
    for one in records:
        size, said = photo_size(images / str(one["file_name"])), (one.get("width"), one.get("height"))
        if None not in said and said not in (size, size[::-1]):
            other.append((one["file_name"], size, said))
    if other:
        name, size, said = other[0]
        raise PoseError(
            f"{len(other)} of {len(records)} images have another size than the file says; the first: {name} has "
            f"{size[0]} x {size[1]} px and not {said[0]} x {said[1]}",
            file=data,
            field="images",
            remedy="Give the images that were annotated, or convert the poses to the size of these.",
        )
