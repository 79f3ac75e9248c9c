"""Who sees poses in images: the protocol of every estimator, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from humansd.core.arrays import ImageArray
from humansd.core.names import FORMER_ESTIMATORS
from humansd.pose.people import People

if TYPE_CHECKING:  # seconds, which a mistyped name need not wait for
    import torch
    from torch import nn


class PoseEstimator(Protocol):
    """Sees the people in images."""

    @property
    def name(self) -> str:
        """The estimator's name in `ESTIMATORS`."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that run, each at least once an image; for counting time and FLOPs."""

    def detect(self, images: Sequence[ImageArray]) -> list[People]:
        """The people of each image, on its own canvas, surest first.

        Args:
            images: uint8 RGB (height, width, 3), of any sizes; no image gives no result.

        Returns:
            One `People` (COCO-17) an image. `score` is the joint's confidence, visibility 2 where the estimator
            found the joint and 0 where it did not; `extras[i]["score"]` is the person's own confidence in 0..1.
            What an image shows does not depend on the images beside it.
        """


SHIPPED = Path(__file__).parents[1] / "weights" / "estimators"
PHOTO_ESTIMATOR = "movenet"  # for photographs where none is named: the others that ship learnt renders
_MAKING = {  # how the folder of an estimator that ships is made
    "movenet": "humansd convert movenet PACKAGE --out FOLDER",
    "higherhrnet": "humansd train pocket-higherhrnet --set data=SHARDS --out RUN",
    "centernet": "humansd train pocket-centernet --set data=SHARDS --out RUN",
}


def _higherhrnet(source: str, device: torch.device) -> PoseEstimator:
    from humansd.models.keypoints import HigherHRNetEstimator

    return HigherHRNetEstimator.from_pretrained(_folder("higherhrnet", source), device)


def _centernet(source: str, device: torch.device) -> PoseEstimator:
    from humansd.models.centernet_pose import CenterNetPoseEstimator

    return CenterNetPoseEstimator.from_pretrained(_folder("centernet", source), device)


def _movenet(source: str, device: torch.device) -> PoseEstimator:
    from humansd.models.movenet_estimator import MoveNetEstimator

    return MoveNetEstimator.from_pretrained(_folder("movenet", source), device)


def _folder(name: str, source: str) -> Path:
    """`source`, or the folder of the weights that ship."""
    folder = Path(source) if source else SHIPPED / name
    if not (folder / "model.safetensors").exists():
        if not source:
            raise ValueError(
                f"estimator {name!r}: this install holds no weights in {folder}; install a release, or name the folder "
                f"of `{_MAKING[name]}`: --estimator {name}=FOLDER"
            )
        raise FileNotFoundError(
            f"estimator {name!r}: {folder} has no model.safetensors; name a folder of `{_MAKING[name]}`, or the "
            "estimator that it is of with --estimator"
        )
    return folder


def _vitpose(source: str, device: torch.device) -> PoseEstimator:
    from humansd.models.vitpose import ViTPoseEstimator

    return ViTPoseEstimator.from_pretrained(source, device=device)


def _rtmlib(source: str, device: torch.device) -> PoseEstimator:
    from humansd.models.rtmlib_estimator import RtmlibEstimator

    return RtmlibEstimator.from_pretrained(source, device)


# name -> maker of (source: folder or hub id, "" for what ships with the package; device).
ESTIMATORS: dict[str, Callable[[str, torch.device], PoseEstimator]] = {
    "movenet": _movenet,  # for photographs
    "higherhrnet": _higherhrnet,  # for the loss and for labels; learnt renders
    "centernet": _centernet,  # for evaluation alone: another architecture; learnt renders
    "vitpose": _vitpose,  # full scale: the user's weights
    "rtmlib": _rtmlib,  # RTMPose: another library's weights
}


def load_estimator(name: str, source: str = "", device: torch.device | str = "cpu") -> PoseEstimator:
    """The estimator `name` with the weights of `source`, a folder or hub id; "" is what ships with the package.

    Raises:
        ValueError: no such estimator or device, or an estimator that ships no weights and was given no source.
        OSError: the source holds no weights in safetensors.
    """
    return ESTIMATORS[estimator_name(name)](source, usable_device(device))


def estimator_name(name: str) -> str:
    """The name in `ESTIMATORS`, also of a former one. ValueError where there is none."""
    name = FORMER_ESTIMATORS.get(name, name)
    if name not in ESTIMATORS:
        raise ValueError(f"estimator {name!r} is not known; choose one of {', '.join(ESTIMATORS)}")
    return name


def usable_device(device: torch.device | str) -> torch.device:
    """The device of that name, "auto" the GPU if there is one; ValueError where this PyTorch has none."""
    import torch

    if device in ("", "auto"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an assertion where PyTorch was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used ({reason}); leave it out for the CPU") from error
    return torch.device(device)
