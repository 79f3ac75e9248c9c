"""What painters do to every pixel, each in one pass over the image. Single-threaded numba; floats are float32."""

from __future__ import annotations

import numpy as np

from humansd.synthetic.jit import kernel


@kernel
def mix_flat(below, above, share):
    """One colour (3,) over `below` (h,w,3) with cover `share` (h,w)."""
    height, width = share.shape
    out = np.empty_like(below)
    for y in range(height):
        for x in range(width):
            for k in range(3):
                out[y, x, k] = below[y, x, k] + (above[k] - below[y, x, k]) * share[y, x]
    return out


@kernel
def mix_images(below, above, share):
    """`above` over `below`, both (h,w,3), with cover `share` (h,w)."""
    height, width = share.shape
    out = np.empty_like(below)
    for y in range(height):
        for x in range(width):
            for k in range(3):
                out[y, x, k] = below[y, x, k] + (above[y, x, k] - below[y, x, k]) * share[y, x]
    return out


@kernel
def saturated(image, amount):
    """Colours (h,w,3) moved away from (amount > 1) or towards grey of the same luma."""
    height, width = image.shape[:2]
    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            grey = (
                np.float32(0.299) * image[y, x, 0]
                + np.float32(0.587) * image[y, x, 1]
                + np.float32(0.114) * image[y, x, 2]
            )
            for k in range(3):
                out[y, x, k] = grey + (image[y, x, k] - grey) * amount
    return out


@kernel
def lit(albedo, tone, tint):
    """albedo (h,w,3) times tone (h,w) times tint (3,), within 0..1."""
    height, width = tone.shape
    out = np.empty_like(albedo)
    for y in range(height):
        for x in range(width):
            for k in range(3):
                value = albedo[y, x, k] * tone[y, x] * tint[k]
                out[y, x, k] = min(max(value, np.float32(0)), np.float32(1))
    return out


@kernel
def pushed(ground, push):
    """`ground` (h,w,3) lighter where `push` (h,w) is positive, darker where negative, within 0..1."""
    height, width = push.shape
    out = np.empty_like(ground)
    for y in range(height):
        for x in range(width):
            gain = np.float32(1) + np.float32(1.5) * push[y, x]
            add = np.float32(0.2) * max(push[y, x], np.float32(0))
            for k in range(3):
                out[y, x, k] = min(max(ground[y, x, k] * gain + add, np.float32(0)), np.float32(1))
    return out


@kernel
def grounded(base, rough, mood, haze, far):
    """A ground (h,w,3): base (h,w,3) times 1 + rough (h,w) times mood (3,), then `haze` (3,) with cover far (h,)."""
    height, width = rough.shape
    out = np.empty_like(base)
    for y in range(height):
        for x in range(width):
            for k in range(3):
                value = base[y, x, k] * (np.float32(1) + rough[y, x]) * mood[k]
                out[y, x, k] = value + (haze[k] - value) * far[y]
    return out


@kernel
def stepped(albedo, level, tint):
    """albedo (h,w,3) times the shade of its step level (h,w), less shaded where light, times tint (3,); within 0..1."""
    height, width = level.shape
    out = np.empty_like(albedo)
    for y in range(height):
        for x in range(width):
            luma = (
                np.float32(0.299) * albedo[y, x, 0]
                + np.float32(0.587) * albedo[y, x, 1]
                + np.float32(0.114) * albedo[y, x, 2]
            )
            shade = level[y, x]
            shade += max(np.float32(1) - shade, np.float32(0)) * np.float32(0.55) * luma * luma
            for k in range(3):
                out[y, x, k] = min(max(albedo[y, x, k] * shade * tint[k], np.float32(0)), np.float32(1))
    return out
