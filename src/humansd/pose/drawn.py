"""Drawings of skeletons read back to key points: OpenPose's 18 or HumanSD's 17 joints, on black, white or grey.

The rule by which a drawing is told from a photograph: at least `BACKGROUND` of the pixels are black, or white, or of
one grey, and what is colored has the hues of one palette, in three or more of them. Hue alone is compared, as it
stays the same where a color is darkened, blended with what is grey, or anti-aliased. `drawn_limbs` finds the joints,
and what it finds must cover the colored pixels.
"""

from __future__ import annotations

import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.drawn_check import sure_joints
from humansd.pose.drawn_limbs import LEAST_PIXELS, Mask, find_people
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.image_sizes import MAX_PIXELS, image_size
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17, OPENPOSE18, Skeleton

BACKGROUND = 0.5  # least share of black, of white or of one grey
_DARK, _LIGHT = 40, 215  # of 255: as black and as white
_GREY, _NEUTRAL = 8, 12  # of 255: farthest from the commonest grey, and difference of a grey's channels
_SMALLEST = 64  # px
_SIDES = (512, 1024)  # px: the shorter side is enlarged to the first, the longer one shrunk to the second
_CHROMA = 0.22  # of 1: least difference of the channels that is a color
_IN_PALETTE = 0.6  # of the colored pixels
_BRIGHT = 0.8  # of 1: discs are, limbs are darker
_EXPLAINED = 0.15  # of the colored pixels lie on the limbs that were found
_WHOLE = 0.93  # where less does, a note says so
_MOST_SPOTS = 2000  # pieces of one hue that a limb could be; 50 people have 850 limbs, each in a piece or two
_PURE = 0.35  # of the step from hue to hue: what is farther from a limb's own may be another's
_THIN = 0.2  # of the image is not background in a drawing
_FLAT = 0.6  # of a drawing's pixels have the color of the pixel before


def read_drawing(rgb: NDArray[np.uint8], name: str = "") -> People | None:
    """The people of a drawing in a known palette, uint8 RGB (height, width, 3), on its canvas; None for any other.

    What cannot be made out surely is left out, and a PoseWarning says how much of the drawing that is: joints whose
    limbs are covered, people no taller than some 12 times their limbs' width, parts that may be one of several
    people's.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < _SMALLEST or foreground(rgb) is None:
        return None
    scale = max(1.0, _SIDES[0] / min(height, width))
    scale = min(scale, _SIDES[1] / max(height, width)) if scale > 1 or max(height, width) > _SIDES[1] else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    hsv = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV), np.float32)
    colored = hsv[..., 1] * hsv[..., 2] > _CHROMA
    if colored.sum() < 1e-4 * colored.size:
        return None
    if _spots(hsv[..., 0], colored) > _MOST_SPOTS:  # reading takes the square of their number
        return None
    for skeleton in sorted((OPENPOSE18, COCO17), key=lambda s: -palette_share(hsv, colored, s)):
        if palette_share(hsv, colored, skeleton) < _IN_PALETTE:
            continue
        people = _people(hsv, colored, skeleton, f"{name}: " if name else "")
        if people is not None:
            return people.resize(width, height)
    return None


def _spots(hue: NDArray[np.float32], colored: Mask) -> int:
    """Connected pieces of about one hue, degrees, that a limb could be."""
    count = 0
    for start in range(0, 360, 20):
        spots = colored & (hue >= start) & (hue < start + 20)
        sizes = cv2.connectedComponentsWithStats(spots.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
        count += int((sizes >= LEAST_PIXELS).sum())
    return count


def foreground(rgb: NDArray[np.uint8], *, grey: bool = True) -> Mask | None:
    """What is not background, bool (height, width); None where neither black nor white nor, with `grey`, one grey makes
    up `BACKGROUND` of the pixels."""
    peak, low = rgb.max(axis=2), rgb.min(axis=2)
    behind = [peak <= _DARK, low >= _LIGHT]
    if grey:
        neutral = peak - low <= _NEUTRAL
        level = int(np.bincount(peak[neutral], minlength=1).argmax())
        behind.append(neutral & (np.abs(peak.astype(np.int16) - level) <= _GREY))
    return next((np.asarray(~mask) for mask in behind if mask.mean() >= BACKGROUND), None)


def hues(skeleton: Skeleton) -> Float64s:
    """The hue of each limb, and behind them of joints with colors that no limb has, in degrees."""
    colors = [*skeleton.limb_colors, *skeleton.joint_colors[len(skeleton.limb_colors) :]]
    rgb = np.array([colors], np.float32) / 255
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[0, :, 0], np.float64)


def palette_share(hsv: NDArray[np.float32], colored: Mask, skeleton: Skeleton) -> float:
    """Share of the colored pixels that have a hue and a purity of this palette, 0 where fewer than three hues occur."""
    values = hsv[colored]
    own = hues(skeleton)
    away = np.abs((values[:, :1] - own + 180) % 360 - 180)
    near = away.min(axis=1) < 360 / len(own) * 0.3
    pure = values[:, 1] > 0.8 if skeleton is OPENPOSE18 else values[:, 1] < 0.8
    counts = np.bincount(away.argmin(axis=1)[near & pure], minlength=len(own))
    if (counts > 0.01 * len(values)).sum() < 3:
        return 0.0
    return float((near & pure).mean())


def _people(hsv: NDArray[np.float32], colored: Mask, skeleton: Skeleton, where: str) -> People | None:
    away = np.abs((hsv[colored][:, :1] - hues(skeleton) + 180) % 360 - 180)
    of_joint, of_limb = np.full(colored.shape, -1), np.full(colored.shape, -1)
    of_joint[colored] = away.argmin(axis=1)
    of_limb[colored] = away[:, : len(skeleton.limbs)].argmin(axis=1)  # a joint may have a hue of its own
    pure = of_limb.copy()
    pure[colored] = np.where(away.min(axis=1) <= _PURE * 360 / away.shape[1], of_limb[colored], -1)
    filled = cv2.dilate((hsv[..., 1] * hsv[..., 2] > _CHROMA / 2).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    bright = hsv[..., 2] > _BRIGHT
    found = find_people(of_joint, of_limb, filled, bright, bright & (hsv[..., 1] > _BRIGHT), skeleton)
    seen = sure_joints(found, pure, filled, skeleton)
    xy, seen = found.xy[seen.any(axis=1)], seen[seen.any(axis=1)]
    if not len(xy):
        return None
    xy[seen == 0] = 0
    people = People.of(xy, colored.shape[::-1], visibility=seen, skeleton=skeleton)
    explained = _explained(people, colored, found.radius)
    if explained < _EXPLAINED:
        return None
    if explained < _WHOLE:
        share = f"{1 - explained:.0%} of the drawn lines cannot be read surely and are left out"
        text = f"{where}{share}; look at what is left"
        warnings.warn(text, PoseWarning, stacklevel=4)
    return people


def _explained(people: People, colored: Mask, radius: float) -> float:
    """Share of the colored pixels that lie on the limbs of these people."""
    reach = radius + 3
    near = np.zeros(colored.shape, np.uint8)
    for xy, seen in zip(people.xy, people.labelled, strict=True):
        for a, b in people.skeleton.limbs:
            if seen[a] and seen[b]:
                ends = [tuple(int(v) for v in np.rint(xy[j])) for j in (a, b)]
                cv2.line(near, ends[0], ends[1], 1, max(1, round(2 * reach)))
    return float((near[colored] > 0).mean())


def is_line_drawing(rgb: NDArray[np.uint8]) -> bool:
    """Whether it is most likely a drawing of whatever colors: thin and flat on black or white, unlike a photograph.

    What is not background covers at most `_THIN` of the image, and most of it has neighbors of its own color.
    """
    shrunk = rgb[:: 1 + rgb.shape[0] // 2048, :: 1 + rgb.shape[1] // 2048]
    front = foreground(shrunk, grey=False)  # people are photographed before grey
    if front is None:
        return False
    share = front.mean()
    if not 2e-4 < share <= _THIN:
        return False
    steps = np.abs(np.diff(shrunk.astype(np.int16), axis=1)).max(axis=2) <= 2
    inside = front[:, 1:] & front[:, :-1]
    return bool(inside.sum() > 20 and (steps & inside).sum() > _FLAT * inside.sum())


def read_drawing_bytes(data: bytes) -> People:
    """The people of an encoded drawing; PoseError for a photograph, an unknown drawing and what is no image."""
    size = image_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise PoseError(f"has {size[0]} x {size[1]} px, the limit is {MAX_PIXELS // 10**6} megapixels",
                        remedy="Make it smaller.")  # fmt: skip
    pixels = decoded(data) if size else None
    if pixels is None:
        raise PoseError("not a readable image", remedy="Give a PNG, JPEG, WebP or BMP file.")
    people = read_drawing(pixels)
    if people is None:
        raise PoseError(
            "is an image, and no drawing in OpenPose's or HumanSD's colors",
            remedy="Of a photograph `humansd pose detect` makes a pose file.",
        )
    return people


def decoded(data: bytes) -> NDArray[np.uint8] | None:
    """uint8 RGB of an encoded image, as it is stored; None where OpenCV cannot read it."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if image is None else opaque(image)


def opaque(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 RGB of what OpenCV decoded: grey, 16 bits, and transparent ones on black where they are seen through."""
    pixels = image if image.ndim == 3 else image[..., None]
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    color = pixels[..., 2::-1] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:].astype(np.float32) / 255
        color = np.rint(color.astype(np.float32) * alpha)
    return np.ascontiguousarray(color, dtype=np.uint8)
