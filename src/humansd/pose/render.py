"""Images of poses: the drawing styles, and telling a drawn skeleton from a photograph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.errors import PoseError
from humansd.pose.maps import cover_person
from humansd.pose.people import People
from humansd.pose.raster import Patch, coverage, tame
from humansd.pose.skeleton import COCO17, OPENPOSE18, Color, Skeleton

REFERENCE_SIDE = 512
_BAND = 256  # rows
_MOST_PIXELS = 16_000_000
_AT_ONCE = 1 << 16  # pixels compared with a palette
KINDS: dict[str, Skeleton] = {"humansd": COCO17, "openpose": OPENPOSE18, "dots": COCO17, "masks": COCO17}


@dataclass(frozen=True)
class DrawStyle:
    """Every setting of a skeleton drawing; it belongs in the config of the model trained with it.

    kind: "humansd" (COCO-17, 16 sticks with round ends, one hue each), "openpose" (OpenPose-18 with neck,
    17 ellipses blended over the joint discs), "dots" (COCO-17, discs of grey 0 on 255, all alike) or "masks"
    (COCO-17, the people of `maps.person_mask` white on black, all alike, sizes their own).
    stick_width_px: width of a stick ("humansd") or semi-minor axis of an ellipse ("openpose", as published);
    joint_radius_px: radius of the end circles, joint discs or dots; both in pixels at a short side of 512, scaled
    with it. score_threshold: a joint is drawn when its score is above. blend: opacity of sticks, dots and masks, 0..1.
    """

    kind: str = "humansd"
    stick_width_px: float = 10.0
    joint_radius_px: float = 5.0
    score_threshold: float = 0.05
    blend: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PoseError(
                f"{self.kind!r} is not a drawing style",
                field="kind",
                remedy=f"Use one of {', '.join(KINDS)}.",
            )
        limits = {"stick_width_px": (0.0, 512.0), "joint_radius_px": (0.0, 256.0)}
        limits |= {"score_threshold": (0.0, 1.0), "blend": (0.0, 1.0)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and low <= value <= high):
                raise PoseError(f"{value!r} is not a number from {low:g} to {high:g}", field=name)
            object.__setattr__(self, name, float(value))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of every setting."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> DrawStyle:
        """The inverse of `to_dict`; unknown or missing keys are refused with PoseError."""
        wanted = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != wanted:
            got = ", ".join(sorted(map(str, data))) if isinstance(data, dict) else type(data).__name__
            raise PoseError(
                f"needs exactly the keys {', '.join(sorted(wanted))}, got {got}",
                field="draw_style",
                remedy="Save it with DrawStyle.to_dict().",
            )
        return cls(**data)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton that this style draws."""
        return KINDS[self.kind]


HUMANSD_STYLE = DrawStyle()
OPENPOSE_STYLE = DrawStyle("openpose", stick_width_px=4.0, joint_radius_px=4.0, blend=0.6)
DOTS_STYLE = DrawStyle("dots", stick_width_px=0.0, joint_radius_px=6.0)  # of the dot images of CN117392675A
MASKS_STYLE = DrawStyle("masks", stick_width_px=0.0, joint_radius_px=0.0)  # of its adapters of segmentation


def draw_people(
    people: People, style: DrawStyle = HUMANSD_STYLE, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """RGB uint8 (height, width, 3) on black ("dots": on white), anti-aliased, sub-pixel exact.

    size: (width, height), default the canvas; another aspect ratio is letterboxed (`People.fit`). A limb
    needs both joints labelled (visibility >= 1) with a score above the threshold. Limbs go in table order,
    people in list order, later over earlier.
    """
    people = people.to_skeleton(style.skeleton)
    if size is not None:
        people = people.fit(*size)
    width, height = people.canvas
    scale = min(width, height) / REFERENCE_SIDE
    image = np.full((height, width, 3), 255 if style.kind == "dots" else 0, np.float32)
    drawn = people.labelled & (people.score > style.score_threshold) & np.isfinite(people.xy).all(axis=2)
    draw = {"humansd": _draw_humansd, "openpose": _draw_openpose, "dots": _draw_dots, "masks": _draw_mask}[style.kind]
    for xy, seen in zip(tame(people.xy), drawn, strict=True):
        draw(image, xy, seen, style, scale)
    return np.rint(image, out=image).astype(np.uint8)


def _draw_humansd(
    image: NDArray[np.float32], xy: Float64s, seen: NDArray[np.bool_], style: DrawStyle, scale: float
) -> None:
    stick, joint = style.stick_width_px / 2 * scale, style.joint_radius_px * scale
    for (i, j), color in zip(style.skeleton.limbs, style.skeleton.limb_colors, strict=True):
        if not (seen[i] and seen[j]):
            continue
        patch = Patch(xy[[i, j]], max(stick, joint), image.shape[:2])
        if not patch:
            continue
        alpha = coverage(patch.to_segment(xy[i], xy[j]), stick)
        if joint > stick:
            for end in (xy[i], xy[j]):
                alpha = np.maximum(alpha, coverage(patch.to_segment(end, end), joint))
        _paint(image, patch, alpha * style.blend, color)


def _draw_openpose(
    image: NDArray[np.float32], xy: Float64s, seen: NDArray[np.bool_], style: DrawStyle, scale: float
) -> None:
    stick, joint = style.stick_width_px * scale, style.joint_radius_px * scale
    for i, color in enumerate(style.skeleton.joint_colors):
        if seen[i] and joint > 0:
            patch = Patch(xy[[i]], joint, image.shape[:2])
            if patch:
                _paint(image, patch, coverage(patch.to_segment(xy[i], xy[i]), joint), color)
    for (i, j), color in zip(style.skeleton.limbs, style.skeleton.limb_colors, strict=True):
        if seen[i] and seen[j] and stick > 0:
            patch = Patch(xy[[i, j]], stick, image.shape[:2])
            if patch:
                inside = np.clip(0.5 - patch.to_ellipse(xy[i], xy[j], stick), 0.0, 1.0)
                _paint(image, patch, inside * style.blend, color)


def _draw_dots(
    image: NDArray[np.float32], xy: Float64s, seen: NDArray[np.bool_], style: DrawStyle, scale: float
) -> None:
    radius = style.joint_radius_px * scale
    for point in xy[seen]:
        patch = Patch(point[None], radius, image.shape[:2])
        if patch:
            _paint(image, patch, coverage(patch.to_segment(point, point), radius) * style.blend, (0, 0, 0))


def _draw_mask(
    image: NDArray[np.float32], xy: Float64s, seen: NDArray[np.bool_], style: DrawStyle, scale: float
) -> None:
    mask = np.zeros(image.shape[:2], np.uint8)
    cover_person(mask, 1, xy, seen)
    image += mask[..., None] * style.blend * (255 - image)


def _paint(image: NDArray[np.float32], patch: Patch, alpha: Float64s, color: Color) -> None:
    opacity = alpha.astype(np.float32)[..., None]
    part = image[patch.index]
    part += opacity * (np.array(color, np.float32) - part)


def looks_like_drawn_skeleton(rgb: NDArray[np.uint8]) -> bool:
    """True when an RGB uint8 (height, width, 3) image is most likely a skeleton drawing, not a photograph.

    It must be mostly black (60 % of the pixels), and what is not black must have the hue and saturation of
    the limb colours of one style (darkened or not), in several colours.
    """
    image = np.asarray(rgb)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise PoseError(f"needs an RGB uint8 image (height, width, 3), got {image.dtype} {image.shape}", field="rgb")
    if not image.size:
        return False
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]  # a maximum over three channels is slow in numpy
    rows = (slice(top, top + _BAND) for top in range(0, len(image), _BAND))
    bands = (np.maximum(np.maximum(red[few], green[few]), blue[few]) for few in rows)
    dark, bright = np.sum([((peak <= 40).sum(), (peak > 110).sum()) for peak in bands], axis=0)
    # A dark photograph is mostly black too, but has nothing as bright as a limb.
    if dark < 0.6 * image.size / 3 or bright < 5e-4 * image.size / 3:
        return False
    return any(_has_palette(image, shrink) for shrink in (1, 2, 4))


def _has_palette(image: NDArray[np.uint8], shrink: int) -> bool:
    """Whether the lit pixels of the image, averaged over shrink x shrink, have limb colours.

    Averages with black keep the hue and saturation, and undo the colour bleeding of JPEG on thin lines.
    """
    size = (max(1, image.shape[1] // shrink), max(1, image.shape[0] // shrink))
    shrunk = image if shrink == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    pixels = shrunk.reshape(-1, 3)
    pixels = pixels[:: 1 + (len(pixels) - 1) // _MOST_PIXELS]  # of a huge image some say what all would
    lit = pixels[pixels.max(axis=1) > 60 // shrink].astype(np.float32)
    if len(lit) < max(8, 1e-3 * len(pixels)):
        return False
    chroma = lit / lit.max(axis=1, keepdims=True)
    return any(_in_palette(chroma, skeleton.limb_colors) for skeleton in KINDS.values())


def _in_palette(chroma: NDArray[np.float32], colors: tuple[Color, ...]) -> bool:
    palette = np.array(colors, np.float32)
    palette /= palette.max(axis=1, keepdims=True)
    counts = np.zeros(len(palette), np.int64)
    for start in range(0, len(chroma), _AT_ONCE):
        distance = np.abs(chroma[start : start + _AT_ONCE, None] - palette).max(axis=2)
        near = distance.min(axis=1) < 0.15
        counts += np.bincount(distance.argmin(axis=1)[near], minlength=len(palette))
    colors_found = int((counts > 0.03 * len(chroma)).sum())
    share = float(counts.sum() / len(chroma))
    return (share > 0.6 and colors_found >= 3) or (share > 0.8 and colors_found >= 2)
