"""ViTPose behind the estimators' protocol: RT-DETR finds the people, ViTPose the joints in each one's box.

Weights come from the hub or from folders; nothing ships with the package. What surrounds the pose network (cutting
out boxes, reading heatmaps of many people at once) is written here and tested against transformers' own, which goes
person by person. Its arithmetic is that of
"unbiased data processing" (Huang et al., CVPR 2020), which counts in pixel centres, as this project does: the first
and last pixel *centres* of a crop and of its heatmaps are the same two places of the image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection, VitPoseForPoseEstimation
from transformers.utils import logging

from humansd.core.arrays import Float64s, ImageArray
from humansd.models.loading import from_hub
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

HUB_SOURCE = "PekingU/rtdetr_r50vd_coco_o365,usyd-community/vitpose-base-simple"
DETECTORS = ("rt_detr", "rt_detr_v2")
PADDING = 1.25  # of a box on each axis, as in ViTPose's training
BOXES_PER_IMAGE = 4  # a batch of the pose network holds this many times the images of a detector's batch
_SMOOTHING = (11, 0.8)  # kernel and sigma in heatmap pixels before the peak is refined, as in transformers


class ViTPoseEstimator:
    """People by RT-DETR (v1 or v2), joints by ViTPose or ViTPose++ with COCO's 17 joints.

    A person is reported when the detector's score is above `person_threshold` and at least one joint was found in
    the image; a joint is found when its heatmap's peak is above `joint_threshold`. Both in 0..1.
    """

    name = "vitpose"

    def __init__(
        self,
        detector: Any,
        detector_processor: Any,
        pose: Any,
        pose_processor: Any,
        *,
        person_threshold: float = 0.3,
        joint_threshold: float = 0.3,
        batch_size: int = 8,
    ) -> None:
        """From transformers' models and image processors; ValueError for networks of other classes or joints."""
        self._person = _person_class(detector.config)
        _check_pose(pose.config)
        self._detector, self._detector_processor, self._pose = detector.eval(), detector_processor, pose.eval()
        self._mean = np.array(pose_processor.image_mean, np.float32)
        self._std = np.array(pose_processor.image_std, np.float32)
        self.person_threshold, self.joint_threshold, self.batch_size = person_threshold, joint_threshold, batch_size

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str] = "", *, device: torch.device | str = "cpu", **options: Any
    ) -> ViTPoseEstimator:
        """The networks of `source` in fp32 on `device`.

        Args:
            source: a folder (or hub id) with the parts `detector` and `pose` as `save_pretrained` writes them, or
                "DETECTOR,POSE", each a folder or hub id; "" is the usual pair on the hub.
            options: as in `__init__`.

        Raises:
            ValueError: another kind of detector, one without a class "person", or other joints than COCO's 17.
            OSError: a part is missing, damaged or not in safetensors.
        """
        detector, pose = _places(os.fspath(source) or HUB_SOURCE)
        _person_class(_load(AutoConfig, *detector))
        _check_pose(_load(AutoConfig, *pose))
        weights: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
        return cls(
            _load(AutoModelForObjectDetection, *detector, **weights).to(device),
            _load(AutoImageProcessor, *detector),
            _load(VitPoseForPoseEstimation, *pose, **weights).to(device),
            _load(AutoImageProcessor, *pose),
            **options,
        )

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `PoseEstimator.networks`."""
        return self._detector, self._pose

    @torch.inference_mode()
    def detect(self, images: Sequence[ImageArray]) -> list[People]:
        """As `PoseEstimator.detect`; a joint that was not found is at (0, 0) with score 0 and visibility 0."""
        for number, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise ValueError(
                    f"image {number} is {image.dtype} {image.shape}; uint8 RGB (height, width, 3) is needed"
                )
        found = [one for batch in _batches(images, self.batch_size) for one in self._find_people(batch)]
        crops = [(image, box) for image, (boxes, _) in zip(images, found, strict=True) for box in boxes]
        joints = [self._find_joints(batch) for batch in _batches(crops, BOXES_PER_IMAGE * self.batch_size)]
        xy = np.concatenate([np.zeros((0, len(COCO17), 2)), *(places for places, _ in joints)])
        score = np.concatenate([np.zeros((0, len(COCO17))), *(peaks for _, peaks in joints)])
        ends = np.cumsum([len(boxes) for boxes, _ in found]).tolist()
        return [
            self._people(image, sure, xy[end - len(sure) : end], score[end - len(sure) : end])
            for image, (_, sure), end in zip(images, found, ends, strict=True)
        ]

    def _find_people(self, images: Sequence[ImageArray]) -> list[tuple[Float64s, Float64s]]:
        """Boxes (n, 4) x0, y0, x1, y1 in pixel centres and scores (n,) of each image's people, surest first."""
        # Said outright, because an image of 3 rows could be read either way.
        inputs = self._detector_processor(list(images), return_tensors="pt", input_data_format="channels_last")
        output = self._detector(pixel_values=inputs["pixel_values"].to(self._detector.device))
        scores = output.logits[..., self._person].sigmoid().double().cpu().numpy()
        boxes = output.pred_boxes.double().cpu().numpy()
        found = []
        for image, score, box in zip(images, scores, boxes, strict=True):
            sides = np.array([image.shape[1], image.shape[0]])
            low, high = ((box[:, :2] + sign * box[:, 2:] / 2).clip(0.0, 1.0) * sides for sign in (-1, 1))
            order = np.argsort(-score, kind="stable")
            order = order[(score[order] > self.person_threshold) & (high > low).all(axis=1)[order]]
            # The detector counts from the outer edge of the first pixel, half a pixel before its centre.
            found.append((np.concatenate([low, high], axis=1)[order] - 0.5, score[order]))
        return found

    def _find_joints(self, crops: Sequence[tuple[ImageArray, Float64s]]) -> tuple[Float64s, Float64s]:
        """Joints (n, 17, 2) in pixels of the images and heatmap peaks (n, 17) of n boxes in their images."""
        backbone = self._pose.config.backbone_config
        height, width = _pair(backbone.image_size)
        frames = np.array([frame_of_box(box, width / height) for _, box in crops])
        cut = np.stack([cut_out(one, frame, (width, height)) for (one, _), frame in zip(crops, frames, strict=True)])
        values = (cut.astype(np.float32) / 255 - self._mean) / self._std
        options: dict[str, Any] = {}
        if backbone.num_experts > 1:  # ViTPose++: expert 0 is COCO's
            options["dataset_index"] = torch.zeros(len(crops), dtype=torch.long, device=self._pose.device)
        pixels = torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().to(self._pose.device)
        return decode_heatmaps(self._pose(pixels, **options).heatmaps.float().cpu().numpy(), frames)

    def _people(self, image: ImageArray, sure: Float64s, xy: Float64s, score: Float64s) -> People:
        seen = score > self.joint_threshold
        return (
            People.of(
                np.where(seen[..., None], xy, 0.0),
                (image.shape[1], image.shape[0]),
                score=np.where(seen, score.clip(0.0, 1.0), 0.0),
                visibility=np.where(seen, 2, 0),
                extras=[{"score": float(one)} for one in sure],
            )
            .drop_outside()  # crops reach beyond the image, where nothing can be seen
            .with_joints()
        )


def frame_of_box(box: Float64s, aspect: float) -> Float64s:
    """The part of the image that the pose network sees of a box: the box widened to `aspect`, and padded.

    Args:
        box: x0, y0, x1, y1 in pixels. aspect: width / height of the network's input.

    Returns:
        Centre x, y and extent width, height in pixels, (4,); the extent goes from first to last pixel centre.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    extent = np.array([max(width, aspect * height), max(height, width / aspect)]) * PADDING
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, *extent])


def cut_out(image: ImageArray, frame: Float64s, size: tuple[int, int]) -> ImageArray:
    """The frame (`frame_of_box`) of an image at `size` (width, height) px, black outside the image."""
    scale = (np.array(size) - 1) / frame[2:]
    shift = scale * (frame[2:] / 2 - frame[:2])
    matrix = np.array([[scale[0], 0.0, shift[0]], [0.0, scale[1], shift[1]]])
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def decode_heatmaps(heatmaps: NDArray[np.float32], frames: Float64s) -> tuple[Float64s, Float64s]:
    """Joints in pixels of the image from the heatmaps of frames.

    The highest pixel, moved to the top of the parabola through the logarithm of the smoothed heatmap around it
    (DARK, Zhang et al., CVPR 2020).

    Args:
        heatmaps: (n, k, h, w), about 0..1. frames: (n, 4) centre and extent, see `frame_of_box`.

    Returns:
        Places (n, k, 2) and the height of the peaks (n, k).
    """
    n, k, height, width = heatmaps.shape
    flat = heatmaps.reshape(n, k, -1)
    y, x = np.divmod(flat.argmax(axis=2), width)
    place = np.stack([x, y], axis=2) + _to_the_top(heatmaps, x, y)
    share = place / (np.array([width, height]) - 1.0)
    centre, extent = frames[:, None, :2], frames[:, None, 2:]
    return centre + (share - 0.5) * extent, flat.max(axis=2).astype(np.float64)


def _to_the_top(heatmaps: NDArray[np.float32], x: NDArray[np.intp], y: NDArray[np.intp]) -> Float64s:
    """(n, k, 2): from the pixels (x, y) of heatmaps to the tops of their peaks, at most one pixel on each axis."""
    kernel, sigma = _SMOOTHING
    smooth = [
        cv2.GaussianBlur(maps.transpose(1, 2, 0), (kernel, kernel), sigma, borderType=cv2.BORDER_REFLECT)
        for maps in heatmaps
    ]
    n, k, height, width = heatmaps.shape
    values = np.stack(smooth).reshape(n, height, width, k).transpose(0, 3, 1, 2).astype(np.float64)
    logs = np.log(values.clip(1e-3, 50.0))
    padded = np.pad(logs, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    people, joints = np.arange(n)[:, None], np.arange(k)[None]

    def at(right: int, down: int) -> Float64s:
        return padded[people, joints, y + 1 + down, x + 1 + right]

    here = 2 * at(0, 0)
    dx, dy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    dxx, dyy = at(1, 0) - here + at(-1, 0), at(0, 1) - here + at(0, -1)
    dxy = (at(1, 1) - at(1, 0) - at(0, 1) + here - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    determinant = dxx * dyy - dxy**2
    is_peak = (dxx < 0) & (determinant > 1e-9)  # else flat or a ridge, which has no top to go to
    determinant = np.where(is_peak, determinant, 1.0)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=2) / determinant[..., None]
    return np.where(is_peak[..., None], step, 0.0).clip(-1.0, 1.0)


def _places(source: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """(folder or hub id, part) of the detector and of the pose network."""
    if Path(source).is_dir() or "," not in source:
        return (source, "detector"), (source, "pose")
    detector, pose = (one.strip() for one in source.split(",", 1))
    return (detector, ""), (pose, "")


def _load(kind: Any, source: str, part: str, **options: Any) -> Any:
    folder = Path(source) / part
    if Path(source).is_dir() and not folder.is_dir():
        raise FileNotFoundError(
            f"estimator 'vitpose': {source} has no folder {part!r}; give a folder with detector/ and pose/, or "
            "two as DETECTOR,POSE"
        )
    if not Path(source).is_dir() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise FileNotFoundError(
            f"estimator 'vitpose': {source!r} is no folder and no hub id (owner/name); give a folder with detector/ "
            "and pose/, or two as DETECTOR,POSE"
        )
    logging.disable_progress_bar()  # of the parts; downloads keep theirs
    try:
        return from_hub(kind.from_pretrained, source, subfolder=part, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        place = folder if Path(source).is_dir() else source
        raise OSError(
            f"estimator 'vitpose': {place} cannot be loaded ({reason}); it needs config.json, "
            "preprocessor_config.json and model.safetensors"
        ) from error
    finally:
        logging.enable_progress_bar()


def _person_class(config: Any) -> int:
    if config.model_type not in DETECTORS:
        raise ValueError(f"estimator 'vitpose': the detector is a {config.model_type}, RT-DETR is needed")
    found = [int(number) for number, label in config.id2label.items() if str(label).lower() == "person"]
    if len(found) != 1:
        raise ValueError("estimator 'vitpose': the detector has no class named 'person'; take one trained on COCO")
    return found[0]


def _check_pose(config: Any) -> None:
    if config.model_type != "vitpose":
        raise ValueError(f"estimator 'vitpose': the pose network is a {config.model_type}, ViTPose is needed")
    if config.num_labels != len(COCO17):
        raise ValueError(
            f"estimator 'vitpose': the pose network finds {config.num_labels} joints, and COCO's {len(COCO17)} are "
            "needed; take one trained on COCO, such as usyd-community/vitpose-base-simple"
        )


def _pair(size: Any) -> tuple[int, int]:
    """transformers writes a height and width, or one number for both."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
