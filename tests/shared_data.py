"""Where real photographs with key points lie, for tests that skip where there are none (a fresh clone)."""

from pathlib import Path

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
COCO_PEOPLE = DATA / "coco-people"
