"""What the renderer hands to the painter: per-pixel layers of the figures, and the camera that saw them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from humansd.pose.people import People

# Material codes of `Buffers.material`.
NOTHING, SKIN, HAIR, EYE, MOUTH, TOP, BOTTOM, SHOES, HAT, PROP = range(10)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the floor plane y = 0, looking along -z and tilted down by `pitch`.

    A camera ray through pixel (u, v) is d = R_x(-pitch) @ [(u - cx) / f, -(v - cy) / f, -1]; it starts at
    (0, height_m, 0). Pixels are those of the super-sampled layers.
    """

    height_m: float
    pitch_rad: float
    focal_px: float
    cx: float
    cy: float

    def horizon_y(self) -> float:
        """Row of the horizon in pixels; may lie outside the image."""
        return self.cy - self.focal_px * float(np.tan(self.pitch_rad))


@dataclass(frozen=True, eq=False)
class Buffers:
    """Layers at R x R = (size * supersample)^2; floats are float32.

    albedo (R,R,3) sRGB 0..1 with garment pattern, no light; shade (R,R) light multiplier, about 0.25..1.25;
    normal (R,R,3) unit, camera space (x right, y up, z to the viewer); depth (R,R) metres, inf where nothing is;
    person (R,R) uint8, 0 nobody, i + 1 person i; material (R,R) uint8 codes above, PROP with person 0 where a thing
    stands in front;
    shadow (R,R) 0..1, cast on the floor (0 none); light (3,) unit vector to the light, camera space;
    people: key points at the final `size`, row i = person i; blocked (n,17): joints inside the frame that somebody
    or something else hides, None where that is not known; part (R,R) uint8: index into `parts.PARTS`, None likewise.
    """

    albedo: np.ndarray
    shade: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    person: np.ndarray
    material: np.ndarray
    shadow: np.ndarray
    light: np.ndarray
    camera: Camera
    people: People
    blocked: np.ndarray | None = None
    part: np.ndarray | None = None
