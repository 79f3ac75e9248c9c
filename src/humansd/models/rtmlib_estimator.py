"""RTMPose behind the estimators' protocol, by the library rtmlib (extra `humansd[rtmlib]`): YOLOX finds the people,
RTMPose the joints in each one's box, both as ONNX files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from humansd.core.digests import file_sha256
from humansd.models.errors import ModelError
from humansd.models.letterbox import check_image
from humansd.models.loading import HUB_PATIENCE, answers
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

MODES = ("lightweight", "balanced", "performance")  # rtmlib's own pairs of networks, fetched when first used
REMEDY = "pip install 'humansd[rtmlib]'"
_MIRROR = "https://huggingface.co"  # where rtmlib looks when the first host fails


class Detector(Protocol):
    """BGR image (h, w, 3) -> boxes (n, 4) x0, y0, x1, y1 in its pixels."""

    def __call__(self, image: NDArray[np.uint8]) -> Any: ...


class PoseNetwork(Protocol):
    """BGR image and boxes -> joints (n, 17, 2) in its pixels and their scores (n, 17), about 0..1."""

    def __call__(self, image: NDArray[np.uint8], bboxes: Any) -> tuple[Any, Any]: ...


class RtmlibEstimator:
    """`PoseEstimator` around rtmlib's detector and pose network; a joint counts from `joint_threshold` on (0..1).

    The detector says no scores, so a person's is the mean over the joints. files: the networks' ONNX files, by whose
    content results are known.
    """

    name = "rtmlib"

    def __init__(
        self, detector: Detector, pose: PoseNetwork, files: Sequence[Path] = (), joint_threshold: float = 0.3
    ) -> None:
        self._detector, self._pose, self.joint_threshold = detector, pose, joint_threshold
        self.networks = tuple(_OnnxFile(file) for file in files)

    @classmethod
    def from_pretrained(cls, source: str = "", device: torch.device | str = "cpu") -> RtmlibEstimator:
        """rtmlib's networks.

        Args:
            source: one of `MODES` ("" is balanced), which rtmlib fetches once and keeps, or "DETECTOR.onnx,POSE.onnx".
            device: cpu or cuda, for which onnxruntime-gpu is needed.

        Raises:
            ModelError: rtmlib is not installed, its networks are neither kept nor within reach (said within seconds),
                or files that it cannot use.
        """
        try:
            from rtmlib import Body
        except ImportError as error:
            raise ModelError(f"estimator 'rtmlib' needs rtmlib and onnxruntime ({error}): {REMEDY}") from error
        options = _options(source) if "," in source else _fetched(Body, source or "balanced")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints what it loads
                body = Body(**options, device=torch.device(device).type)
            return cls(body.det_model, body.pose_model, [Path(m.onnx_model) for m in (body.det_model, body.pose_model)])
        except Exception as error:  # of onnxruntime, urllib or zipfile, each of its own family
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"estimator 'rtmlib': its networks cannot be loaded ({reason}); name those of rtmlib: "
                "--estimator rtmlib=DETECTOR.onnx,POSE.onnx"
            ) from error

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[People]:
        """See `PoseEstimator.detect`."""
        for image in images:
            check_image(image)
        return [self._detect(image) for image in images]

    def _detect(self, image: NDArray[np.uint8]) -> People:
        bgr = np.ascontiguousarray(image[..., ::-1])
        boxes = self._detector(bgr)
        xy, score = np.zeros((0, len(COCO17), 2)), np.zeros((0, len(COCO17)))
        if len(boxes):  # without a box the pose network would look at the whole image
            xy, score = (np.asarray(one, np.float64) for one in self._pose(bgr, bboxes=boxes))
        score = np.nan_to_num(score).clip(0, 1)
        order = np.argsort(-score.mean(1), kind="stable")
        xy, score = xy[order], score[order]
        seen = (score >= self.joint_threshold) & np.isfinite(xy).all(2)
        people = People.of(
            np.where(seen[..., None], xy, 0.0),
            (image.shape[1], image.shape[0]),
            score=np.where(seen, score, 0.0),
            visibility=np.where(seen, 2, 0).astype(np.uint8),
            extras=[{"score": value} for value in score.mean(1).tolist()],
        )
        return people.drop_outside().with_joints()


class _OnnxFile(nn.Module):
    """Stands for a network that is none of PyTorch's: the digest of its file, where others have weights."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        digest = bytes.fromhex(file_sha256(file))
        self.register_buffer("sha256", torch.tensor(list(digest), dtype=torch.uint8))


def _options(source: str) -> dict[str, Any]:
    """rtmlib's arguments for two ONNX files, each with the size of its input."""
    import onnxruntime

    options: dict[str, Any] = {}
    for name, path in zip(("det", "pose"), source.split(","), strict=False):
        if not Path(path).is_file():
            raise ModelError(
                f"estimator 'rtmlib': {path}: no such file; name --estimator rtmlib=DETECTOR.onnx,POSE.onnx"
            )
        try:
            shape = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].shape
            options |= {name: path, f"{name}_input_size": (int(shape[3]), int(shape[2]))}
        except Exception as error:  # onnxruntime's own, TypeError, IndexError
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"estimator 'rtmlib': {path}: no ONNX network of images ({reason}); name one of rtmlib"
            ) from error
    return options


def _fetched(body: Any, mode: str) -> dict[str, Any]:
    """rtmlib's arguments for one of its own pairs, which are kept or within reach."""
    if mode not in MODES:
        raise ModelError(
            f"estimator 'rtmlib': source {mode!r} is none of {', '.join(MODES)}, nor DETECTOR.onnx,POSE.onnx"
        )
    urls = [body.MODE[mode][name] for name in ("det", "pose")]
    wanted = [url for url in urls if not _kept(url)]
    hosts = ["/".join(url.split("/")[:3]) for url in wanted[:1]]
    if wanted and not any(answers(host) for host in [*hosts, _MIRROR]):
        raise ModelError(
            f"estimator 'rtmlib': its networks are not on this machine, and {hosts[0]} does not answer within "
            f"{HUB_PATIENCE:.0f} s; connect to the network, name --estimator rtmlib=DETECTOR.onnx,POSE.onnx, or use "
            "--estimator movenet"
        )
    return {"mode": mode}


def _kept(url: str) -> bool:
    """Whether rtmlib has fetched this network before; its cache's place is that of its `tools/file.py`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(cache, "rtmlib")))
    name = url.rsplit("/", 1)[-1].split(".")[0]
    return any((Path(home) / "hub" / "checkpoints" / f"{name}{end}").exists() for end in (".onnx", ".zip"))
