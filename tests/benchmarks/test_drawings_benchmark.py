"""Real poses drawn in many ways, read back: few joints wrong, and what cannot be made out is left out and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from humansd.benchmarks.drawings import Score, benchmark_drawings, sample_drawing, sample_poses, score_drawing
from humansd.pose import COCO17, People, PoseError, PoseWarning
from humansd.pose.drawn import read_drawing
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, DrawStyle, draw_people
from pose_mutants import CANVAS, TRUTH
from shared_data import COCO_PEOPLE

FILE = COCO_PEOPLE / "person_keypoints.json"
needs_poses = pytest.mark.skipif(not FILE.exists(), reason="no poses in ../shared/data")
BODY = np.array([[TRUTH[joint] for joint in COCO17.joints]], float)


@needs_poses
@pytest.mark.filterwarnings("ignore::humansd.pose.errors.PoseWarning")
def test_of_one_person_next_to_nothing_is_read_wrong() -> None:
    poses = sample_poses(FILE)
    total = Score()
    for seed in range(12):
        drawing = sample_drawing(poses, np.random.default_rng((0, seed)))
        if drawing.how["people"] == 1:
            total.add(score_drawing(drawing))
    assert total.drawings >= 2
    assert total.right > 0.6 * total.joints
    assert total.wrong <= 0.03 * total.right
    assert total.ghosts == 0


@needs_poses
@pytest.mark.filterwarnings("ignore::humansd.pose.errors.PoseWarning")
def test_the_table_has_a_row_for_each_way_of_drawing() -> None:
    table = benchmark_drawings(FILE, count=1)
    assert table.startswith("| drawings | number | read | joints within 3 px | left out | of those read wrong |")
    assert "| all | 1 |" in table


@pytest.mark.parametrize("style", [HUMANSD_STYLE, OPENPOSE_STYLE], ids=["humansd", "openpose"])
def test_a_person_as_stout_as_the_lines_is_not_read(style: DrawStyle) -> None:
    small, stout = People.of(BODY / 4 + (200, 200), (512, 512)), DrawStyle(style.kind, 9, 9, blend=style.blend)
    assert read_drawing(draw_people(small, stout)) is None
    assert read_drawing(draw_people(small, DrawStyle(style.kind, 2, 2, blend=style.blend))) is not None


def test_what_is_left_out_is_said() -> None:
    large, small = People.of(BODY, CANVAS), People.of(BODY / 8 + (20, 380), CANVAS)
    both = People.of(np.concatenate([large.xy, small.xy]), CANVAS)
    with pytest.warns(PoseWarning, match=r"a\.png: \d+% of the drawn lines cannot be read surely"):
        read = read_drawing(draw_people(both), "a.png")
    assert read is not None
    assert read.n == 1
    np.testing.assert_allclose(read.to_skeleton(COCO17).xy[0], BODY[0], atol=3)


def test_parts_of_two_people_are_not_made_one() -> None:
    """The face of one, the limbs of another: the limb between them, were they one body's, was not drawn."""
    seen = np.zeros((2, 17), int)
    seen[0, :5], seen[1, 5:] = 2, 2
    xy = np.concatenate([BODY - (60, 40), BODY])
    read = read_drawing(draw_people(People.of(xy, CANVAS, visibility=seen)))
    assert read is not None
    assert all(not (one[:5].any() and one[5:].any()) for one in read.labelled)


def test_a_file_without_people_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"people": [], "canvas_width": 9, "canvas_height": 9}')
    with pytest.raises(PoseError, match=r"shows 0 people with 10 joints\. Name a larger set"):
        benchmark_drawings(file)
