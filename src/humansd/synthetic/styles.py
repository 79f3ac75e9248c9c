"""From the renderer's layers to the finished image: people in their place, painted in the scene's style."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from humansd.synthetic import styles_brush, styles_camera, styles_line
from humansd.synthetic.buffers import Buffers
from humansd.synthetic.plan import ScenePlan
from humansd.synthetic.sheet import Sheet

# Scene -> its painter: Sheet -> float32 (R,R,3) sRGB, about 0..1.
STYLES: dict[str, Callable[[Sheet], np.ndarray]] = {
    "photo": styles_camera.photo,
    "vintage_photo": styles_camera.vintage_photo,
    "sculpture": styles_camera.sculpture,
    "relief": styles_camera.relief,
    "shadow_play": styles_camera.shadow_play,
    "neon": styles_camera.neon,
    "cartoon": styles_line.cartoon,
    "comic": styles_line.comic,
    "sketch": styles_line.sketch,
    "ukiyoe": styles_line.ukiyoe,
    "kids_drawing": styles_line.kids_drawing,
    "pixel_art": styles_line.pixel_art,
    "ink_painting": styles_brush.ink_painting,
    "digital_art": styles_brush.digital_art,
    "oil_painting": styles_brush.oil_painting,
    "watercolor": styles_brush.watercolor,
    "mural": styles_brush.mural,
    "stained_glass": styles_brush.stained_glass,
}


def paint(plan: ScenePlan, buffers: Buffers, rng: np.random.Generator, size: int) -> np.ndarray:
    """The image of `plan`: uint8 (size,size,3) RGB, painted at the layers' R x R and averaged down.

    Deterministic given `rng`. Raises ValueError when the plan's scene has no painter, the layers are not
    square or `size` exceeds them.
    """
    if plan.scene not in STYLES:
        raise ValueError(f"ScenePlan.scene: {plan.scene!r} has no painter; use one of {', '.join(STYLES)}")
    height, width = buffers.person.shape
    if height != width or not 0 < size <= height:
        raise ValueError(
            f"Buffers: layers of {width} x {height} cannot make an image of {size} x {size}; "
            "render square layers at least as large as the image"
        )
    image = np.clip(STYLES[plan.scene](Sheet(plan, buffers, rng)), 0, 1).astype(np.float32)
    if size != height:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(image * 255).astype(np.uint8)
