"""Names of array types, one for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
ImageArray = NDArray[np.uint8]  # (height, width, 3) RGB
