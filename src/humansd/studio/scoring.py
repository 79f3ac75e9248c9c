"""How well an image meets the wished pose: who is who, and how far every joint is off."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from humansd.pose.compare import oks
from humansd.pose.people import People


def compare(wished: People, found: People) -> dict[str, Any]:
    """Similarity and errors, as plain JSON values.

    Args:
        wished: the pose that was asked for. found: what an estimator sees, on a canvas of the same size.

    Returns:
        similarity: mean over the wished people of their OKS with the one they are paired with, 0..1; whoever is missing
        counts 0. pairs: for each wished person `wished`, `found` (indices, found None where nobody is), `similarity`
        and `errors`: of each joint its distance in px, None where it was not asked for or not found. missing, extra:
        people too few and too many. mean_error: px, over all joints with one, or None. shared: how many joints that
        mean is over.
    """
    found = found.to_skeleton(wished.skeleton).fit(*wished.canvas)
    likeness = oks(wished, found) if found.n else np.zeros((wished.n, 0))
    rows, columns = linear_sum_assignment(-likeness)
    partner = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if likeness[i, j] > 0}
    pairs, values, distances = [], [], []
    for i in range(wished.n):
        j = partner.get(i)
        similarity = float(likeness[i, j]) if j is not None else 0.0
        errors: list[float | None] = [None] * len(wished.skeleton)
        if j is not None:
            gaps = np.linalg.norm(wished.xy[i] - found.xy[j], axis=1)
            both = wished.labelled[i] & found.labelled[j]
            errors = [float(gap) if shared else None for gap, shared in zip(gaps, both, strict=True)]
        distances += [error for error in errors if error is not None]
        values.append(similarity)
        pairs.append({"wished": i, "found": j, "similarity": similarity, "errors": errors})
    return {
        "similarity": float(np.mean(values)) if values else 0.0,
        "pairs": pairs,
        "missing": wished.n - len(partner),
        "extra": found.n - len(partner),
        "mean_error": float(np.mean(distances)) if distances else None,
        "shared": len(distances),
    }
