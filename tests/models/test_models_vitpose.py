import shutil

import numpy as np
import pytest
import torch
from transformers import RTDetrImageProcessor, VitPoseImageProcessor

from humansd.models.estimators import load_estimator
from humansd.models.vitpose import ViTPoseEstimator, cut_out, decode_heatmaps, frame_of_box
from humansd.pose import People
from tiny_vitpose import save_detector, save_pose

ANYONE = {"person_threshold": 0.0, "joint_threshold": 0.0}  # random networks are sure of nothing
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((40, 60), (120, 33), (3, 90), (64, 64))]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vitpose")
    save_detector(folder / "detector")
    save_pose(folder / "pose")
    return folder


@pytest.fixture(scope="module")
def estimator(source):
    return ViTPoseEstimator.from_pretrained(source, **ANYONE)


def bumps(places, height=64, width=48, sigma=2.0):
    """Heatmaps (n, k, h, w) with a Gaussian at each place (n, k, 2)."""
    y, x = np.mgrid[:height, :width]
    distance = (x - places[..., 0, None, None]) ** 2 + (y - places[..., 1, None, None]) ** 2
    return np.exp(-distance / (2 * sigma**2)).astype(np.float32)


# -- geometry ---------------------------------------------------------------------------------------------------


def test_joints_land_where_the_heatmaps_put_them():
    boxes = RNG.uniform(0, 300, (5, 4))
    boxes[:, 2:] = boxes[:, :2] + RNG.uniform(30, 400, (5, 2))
    frames = np.array([frame_of_box(box, 192 / 256) for box in boxes])
    true = boxes[:, None, :2] + RNG.uniform(0, 1, (5, 17, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    # By definition the outermost pixel centres of a heatmap are the ends of the frame.
    share = (true - frames[:, None, :2]) / frames[:, None, 2:] + 0.5
    xy, score = decode_heatmaps(bumps(share * (47, 63)), frames)
    assert np.abs(xy - true).max() < 0.02 * frames[:, 2].max() / 47  # px; a heatmap's pixel is extent / 47
    assert score == pytest.approx(1, abs=0.1)


def test_a_place_in_the_crop_is_the_same_place_in_the_image():
    """A dot is cut out, its crop shrunk to a heatmap and decoded: it must be found where it was put."""
    true = np.array([151.0, 87.0])
    image = np.zeros((240, 320, 3), np.uint8)
    y, x = np.mgrid[:240, :320]
    image[:] = (255 * np.exp(-((x - true[0]) ** 2 + (y - true[1]) ** 2) / (2 * 3.0**2)))[..., None]
    frame = frame_of_box(np.array([60.0, 20.0, 250.0, 210.0]), 192 / 256)
    crop = cut_out(image, frame, (192, 256))
    xy, _ = decode_heatmaps(crop[None, None, ..., 0].astype(np.float32) / 255, frame[None])
    assert xy[0, 0] == pytest.approx(true, abs=0.1)


def test_the_arithmetic_is_that_of_transformers():
    processor = VitPoseImageProcessor()
    image = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    boxes = np.array([[30.0, 40, 150, 200], [100, 5, 219, 30], [-5, -20, 60, 300]])
    frames = np.array([frame_of_box(box, 192 / 256) for box in boxes])
    theirs = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes.tolist()]
    pixels = processor(image, boxes=[theirs], return_tensors="np", do_normalize=False, do_rescale=False)
    for frame, crop in zip(frames, pixels["pixel_values"].transpose(0, 2, 3, 1), strict=True):
        difference = np.abs(cut_out(image, frame, (192, 256)) - crop.astype(float))
        assert np.quantile(difference, 0.99) <= 2  # the rest: OpenCV blends the rim with the black around it
    heatmaps = bumps(RNG.uniform(2, 45, (3, 17, 2)), sigma=2.3) * RNG.uniform(0.2, 1, (3, 17, 1, 1)).astype(np.float32)
    output = type("Output", (), {"heatmaps": torch.from_numpy(heatmaps)})
    found = processor.post_process_pose_estimation(output, boxes=[theirs])[0]
    xy, score = decode_heatmaps(heatmaps, frames)
    assert np.abs(xy - np.stack([one["keypoints"] for one in found])).max() < 0.01
    assert score == pytest.approx(np.stack([one["scores"] for one in found]))


def test_flat_heatmaps_and_peaks_on_the_rim_stay_finite():
    heatmaps = np.zeros((1, 17, 64, 48), np.float32)
    heatmaps[0, 1] = 0.5
    heatmaps[0, 2, 63, 47] = heatmaps[0, 3, 0, 0] = 1
    heatmaps[0, 4, :, 20] = 1
    xy, _ = decode_heatmaps(heatmaps, np.array([[23.5, 31.5, 47.0, 63.0]]))
    assert np.isfinite(xy).all()
    assert np.abs(xy[0, 2] - (47, 63)).max() <= 1
    assert np.abs(xy[0, 3]).max() <= 1
    assert xy[0, 4, 0] == pytest.approx(20, abs=1e-6)


def test_the_frame_has_the_networks_shape_and_a_margin():
    centre_x, centre_y, width, height = frame_of_box(np.array([10.0, 20, 50, 40]), 0.75)
    assert (centre_x, centre_y) == (30, 30)
    assert (width, height) == (50, pytest.approx(50 / 0.75))


def test_boxes_are_the_detectors_in_pixel_centres(source):
    """The whole image in the detector's eyes, 0..1, is -0.5 .. W - 0.5 in pixel centres."""
    estimator = ViTPoseEstimator.from_pretrained(source, **ANYONE)
    detector = estimator._detector
    image = IMAGES[0]
    with torch.no_grad():
        ((boxes, scores),) = estimator._find_people([image])
        pixels = RTDetrImageProcessor(size={"height": 64, "width": 64})(image, return_tensors="pt")["pixel_values"]
        output = detector(pixels)
    score = output.logits[0, :, 1].sigmoid()
    best = int(score.argmax())
    cx, cy, w, h = output.pred_boxes[0, best].tolist()
    expected = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).clip(0, 1) * (60, 40, 60, 40) - 0.5
    assert boxes[0] == pytest.approx(expected, abs=1e-3)
    assert scores[0] == pytest.approx(float(score[best]), abs=1e-5)
    assert (boxes >= -0.5).all()
    assert (boxes <= np.array([60, 40, 60, 40]) - 0.5).all()


# -- detection with tiny random networks ------------------------------------------------------------------------


def test_images_of_all_sizes(estimator):
    found = estimator.detect(IMAGES)
    assert [people.canvas for people in found] == [(60, 40), (33, 120), (90, 3), (64, 64)]
    assert sum(people.n for people in found) > 5
    for people in found:
        sure = [extras["score"] for extras in people.extras]
        assert sure == sorted(sure, reverse=True)
        assert set(np.unique(people.visibility)) <= {0, 2}
        assert people.labelled.any(axis=1).all()
        assert (people.xy[~people.labelled] == 0).all()
        assert (people.score[~people.labelled] == 0).all()
        assert people.drop_outside().equals(people)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_neighbours_do_not_change_an_image(source, estimator, batch_size):
    other = ViTPoseEstimator.from_pretrained(source, batch_size=batch_size, **ANYONE).detect(IMAGES[::-1])[::-1]
    for mine, theirs in zip(estimator.detect(IMAGES), other, strict=True):
        assert np.array_equal(mine.visibility, theirs.visibility)
        assert mine.xy == pytest.approx(theirs.xy, abs=0.01)
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)


def test_nothing_in_nothing_out(estimator):
    assert estimator.detect([]) == []


def test_nobody(source):
    (people,) = ViTPoseEstimator.from_pretrained(source, person_threshold=0.999).detect(IMAGES[:1])
    assert people.equals(People.empty((60, 40)))
    (people,) = ViTPoseEstimator.from_pretrained(source, person_threshold=0, joint_threshold=1e6).detect(IMAGES[:1])
    assert people.equals(People.empty((60, 40)))


def test_the_person_is_found_by_name(source, tmp_path):
    shutil.copytree(source, tmp_path / "other")
    # The same random weights with the names exchanged: now the other class is the person.
    save_detector(tmp_path / "other" / "detector", labels=("Person", "cat"))
    scores = [
        [extras["score"] for extras in ViTPoseEstimator.from_pretrained(place, **ANYONE).detect(IMAGES[:1])[0].extras]
        for place in (source, tmp_path / "other")
    ]
    assert scores[0] != pytest.approx(scores[1])


def test_other_versions_and_experts(tmp_path):
    save_detector(tmp_path / "detector", version=2)
    save_pose(tmp_path / "pose", experts=3)
    found = ViTPoseEstimator.from_pretrained(tmp_path, **ANYONE).detect(IMAGES)
    assert sum(people.n for people in found) > 5


def test_by_name_and_as_two_folders(source):
    pair = f"{source / 'detector'}, {source / 'pose'}"
    estimator = load_estimator("vitpose", pair)
    assert estimator.name == "vitpose"
    estimator.person_threshold = estimator.joint_threshold = 0.0
    (mine,) = estimator.detect(IMAGES[:1])
    (theirs,) = ViTPoseEstimator.from_pretrained(source, **ANYONE).detect(IMAGES[:1])
    assert mine.equals(theirs)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(estimator, image):
    with pytest.raises(ValueError, match=r"image 1 is .* uint8 RGB"):
        estimator.detect([IMAGES[0], image])


# -- sources that do not do -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/no/such/folder", "nothing", "./a/b"])
def test_a_missing_folder(name):
    with pytest.raises(FileNotFoundError, match=r"no folder and no hub id.*detector/ and pose/"):
        ViTPoseEstimator.from_pretrained(name)


def test_a_hub_id_without_network():
    with pytest.raises(OSError, match=r"nobody/nothing cannot be loaded"):
        ViTPoseEstimator.from_pretrained("nobody/nothing")


def test_a_missing_part(source, tmp_path):
    shutil.copytree(source / "detector", tmp_path / "detector")
    with pytest.raises(FileNotFoundError, match="has no folder 'pose'"):
        ViTPoseEstimator.from_pretrained(tmp_path)


@pytest.mark.parametrize("part", ["detector", "pose"])
def test_pickled_weights_are_not_opened(source, tmp_path, part):
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    (tmp_path / part / "model.safetensors").unlink()
    torch.save({}, tmp_path / part / "pytorch_model.bin")
    with pytest.raises(OSError, match=rf"{part} cannot be loaded .*model\.safetensors"):
        ViTPoseEstimator.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_damaged_files(source, tmp_path, name):
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "pose" / name
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(OSError, match="pose cannot be loaded"):
        ViTPoseEstimator.from_pretrained(tmp_path)


def test_other_networks(source, tmp_path):
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="detector is a vitpose, RT-DETR is needed"):
        ViTPoseEstimator.from_pretrained(f"{source / 'pose'},{source / 'pose'}")
    with pytest.raises(ValueError, match="pose network is a rt_detr, ViTPose is needed"):
        ViTPoseEstimator.from_pretrained(f"{source / 'detector'},{source / 'detector'}")
    save_pose(tmp_path / "pose", joints=133)
    with pytest.raises(ValueError, match=r"finds 133 joints.*17 are needed"):
        ViTPoseEstimator.from_pretrained(tmp_path)
    save_detector(tmp_path / "detector", labels=("cat", "dog"))
    with pytest.raises(ValueError, match="no class named 'person'"):
        ViTPoseEstimator.from_pretrained(tmp_path)
