"""What a pose is: read, write, draw, transform, compare. Uses numpy and OpenCV only."""

from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17, HUMANART21, OPENPOSE18, SKELETONS, Skeleton

__all__ = [
    "COCO17",
    "HUMANART21",
    "OPENPOSE18",
    "SKELETONS",
    "People",
    "PoseError",
    "PoseWarning",
    "Skeleton",
]
