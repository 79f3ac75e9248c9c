"""How much of two images is the same where nothing may change: PSNR, SSIM and MSE outside of a mask.

As PIE-Bench measures an edit (Ju et al. 2024, "PnP Inversion", sec. 5), of which HumanSD's first author is the author.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WINDOW_PX, SIGMA_PX = 11, 1.5  # of SSIM (Wang et al. 2004, sec. III-C)
C1, C2 = 0.01**2, 0.03**2
LUMA = np.array([0.299, 0.587, 0.114])


def outside_scores(first: NDArray[np.uint8], second: NDArray[np.uint8], changes: NDArray[np.bool_]) -> dict[str, float]:
    """Of two images uint8 RGB (h, w, 3), where `changes` (h, w) is false.

    Returns: mse, of values 0..1; psnr, dB, infinite where nothing differs; ssim, of luma, the mean over the windows
    that lie outside of the mask and inside the image. NaN where there is no such place.

    Raises:
        ValueError: images or mask of different sizes.
    """
    if first.shape != second.shape or first.shape[:2] != changes.shape:
        raise ValueError(f"images {first.shape} and {second.shape}, mask {changes.shape}: their sizes must agree")
    outside = ~changes
    if not outside.any():
        return {"mse": float("nan"), "psnr": float("nan"), "ssim": float("nan")}
    one, other = (image.astype(np.float64) / 255 for image in (first, second))
    mse = float(np.square(one - other)[outside].mean())
    psnr = float("inf") if mse == 0 else float(-10 * np.log10(mse))
    return {"mse": mse, "psnr": psnr, "ssim": _outside_ssim(one @ LUMA, other @ LUMA, outside)}


def ssim_map(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """SSIM of each place of two grey images (h, w) in 0..1 (Wang et al. 2004, Eq. 13), with their Gaussian window."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (WINDOW_PX, WINDOW_PX), SIGMA_PX))

    a, b = mean(first), mean(second)
    aa, bb, ab = mean(first * first) - a * a, mean(second * second) - b * b, mean(first * second) - a * b
    return np.asarray((2 * a * b + C1) * (2 * ab + C2) / ((a * a + b * b + C1) * (aa + bb + C2)))


def _outside_ssim(first: NDArray[np.float64], second: NDArray[np.float64], outside: NDArray[np.bool_]) -> float:
    window = np.ones((WINDOW_PX, WINDOW_PX), np.uint8)
    whole = cv2.erode(outside.astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    return float(ssim_map(first, second)[whole].mean()) if whole.any() else float("nan")
