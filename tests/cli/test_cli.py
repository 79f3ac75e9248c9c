import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import humansd
from humansd.cli import build_parser, main
from humansd.data import Sample, write_shards
from humansd.pose import People
from humansd.pose.formats import read_poses

POSES = Path(__file__).parents[2] / "examples" / "poses"


def run(*words):
    return main([str(word) for word in words])


def fails(capsys, *words):
    """The one line that the command prints to stderr when it fails with status 2."""
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("humansd: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


def usage_error(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_help_is_quick_and_loads_no_heavy_module():
    code = (
        "import sys, contextlib\n"
        "from humansd.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print([n for n in ('torch', 'numpy', 'cv2', 'PIL', 'diffusers') if n in sys.modules])"
    )
    seconds = []  # of computing, so that another run beside this one does not count
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "generate" in done.stdout
    assert min(seconds) < 0.5


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"humansd {humansd.__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["pose"], ["data"], ["dance"], ["generate", "a man"], ["data", "atelier", "--out", "x"]]
)
def test_incomplete_commands_show_the_usage(capsys, words):
    assert "usage: humansd" in usage_error(capsys, *words)


@pytest.mark.parametrize("size", ["12", "0x5", "axb", "5x-3", "x"])
def test_a_wrong_size_is_explained(capsys, size):
    err = usage_error(capsys, "pose", "draw", "p.json", "--out", "x.png", "--canvas", size)
    assert "width x height in pixels, like 640x480" in err
    assert err.startswith("humansd: ")
    assert err.count("\n") == 1
    assert "`humansd pose draw --help`" in err


def test_a_wrong_setting_is_explained(capsys):
    assert "KEY=VALUE" in usage_error(capsys, "train", "pocket", "--set", "steps")


# -- pose ---------------------------------------------------------------------------------------------------


def test_pose_draw(tmp_path, capsys):
    out = tmp_path / "new" / "skeleton.png"
    assert run("pose", "draw", POSES / "two_people.json", "--out", out) == 0
    assert "2 people, 435x435" in capsys.readouterr().out
    drawn = cv2.imread(str(out))
    assert drawn.shape == (435, 435, 3)
    assert 0.01 < (drawn.max(axis=2) > 0).mean() < 0.3
    assert (drawn[0] == 0).all()


def test_pose_draw_over_an_image(tmp_path):
    photo, out, plain = (tmp_path / name for name in ("photo.png", "over.png", "plain.png"))
    cv2.imwrite(str(photo), np.full((40, 80, 3), (10, 20, 30), np.uint8))
    assert run("pose", "draw", POSES / "standing.json", "--out", plain, "--style", "openpose") == 0
    assert (
        run(
            "pose",
            "draw",
            POSES / "standing.json",
            "--out",
            out,
            "--style",
            "openpose",
            "--background",
            photo,
        )
        == 0
    )
    over, alone = cv2.imread(str(out)), cv2.imread(str(plain))
    skeleton = alone.any(axis=2)
    assert (over[skeleton] == alone[skeleton]).all()
    assert over[229, 3].tolist() == [10, 20, 30]  # beside the person, within the letterboxed image
    assert over[3, 3].tolist() == [0, 0, 0]  # above it


def test_pose_draw_asks_which_of_many(tmp_path, capsys):
    run("pose", "convert", POSES, tmp_path / "all.json", "--to", "coco")
    capsys.readouterr()
    draw = ["pose", "draw", tmp_path / "all.json", "--out", tmp_path / "x.png"]
    assert "--name" in fails(capsys, *draw)
    assert "'dancing'" in fails(capsys, *draw, "--name", "dancing")
    assert run(*draw, "--name", "sitting") == 0


@pytest.mark.parametrize("to", ["coco", "humanart", "npz", "humansd"])
def test_pose_convert_keeps_every_joint(tmp_path, to, capsys):
    source = POSES / "three_people.json"
    out = tmp_path / ("x.npz" if to == "npz" else "x.json")
    assert run("pose", "convert", source, out, "--to", to) == 0
    assert "1 poses, 3 people" in capsys.readouterr().out
    before, after = (next(iter(read_poses(path).values())) for path in (source, out))
    assert after.canvas == before.canvas
    assert np.array_equal(after.visibility, before.visibility)
    assert np.allclose(after.xy, before.xy)


def test_pose_convert_there_and_back(tmp_path):
    source, there, back = POSES / "walking.json", tmp_path / "there.json", tmp_path / "back.json"
    assert run("pose", "convert", source, there, "--to", "openpose") == 0
    assert len(json.loads(there.read_text())["people"][0]["pose_keypoints_2d"]) == 18 * 3
    assert run("pose", "convert", there, back, "--to", "coco", "--canvas", "150x150") == 0
    before, after = (next(iter(read_poses(path).values())) for path in (source, back))
    assert np.array_equal(after.labelled, before.labelled)
    assert np.allclose(after.xy, before.xy)


def test_pose_convert_of_a_folder(tmp_path, capsys):
    assert run("pose", "convert", POSES, tmp_path / "openpose", "--to", "openpose") == 0
    names = sorted(path.name for path in POSES.glob("*.json"))
    assert sorted(path.name for path in (tmp_path / "openpose").iterdir()) == names


def test_a_canvas_must_be_given_where_the_file_has_none(tmp_path, capsys):
    joints = [[10.0 + i, 20.0, 0.9] for i in range(18)]
    flat = [value for joint in joints for value in joint]
    pose = tmp_path / "op.json"
    pose.write_text(json.dumps({"version": 1.3, "people": [{"pose_keypoints_2d": flat}]}))
    draw = ["pose", "draw", pose, "--out", tmp_path / "x.png"]
    assert "canvas" in fails(capsys, *draw)
    assert run(*draw, "--canvas", "64x48") == 0
    assert cv2.imread(str(tmp_path / "x.png")).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("content", "word"), [("", "empty"), ("{", "JSON"), ("[]", "format"), (None, "does not exist")]
)
def test_a_bad_pose_file_is_named_in_one_line(tmp_path, capsys, content, word):
    pose = tmp_path / "bad.json"
    if content is not None:
        pose.write_text(content)
    err = fails(capsys, "pose", "draw", pose, "--out", tmp_path / "x.png")
    assert "bad.json" in err
    assert word in err


def test_debug_shows_where_it_happened(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json"):
        run("pose", "draw", tmp_path / "none.json", "--out", tmp_path / "x.png", "--debug")


@pytest.mark.parametrize("out", ["x.jpg", "x"])
def test_a_drawing_is_a_png(tmp_path, capsys, out):
    assert ".png" in fails(capsys, "pose", "draw", POSES / "standing.json", "--out", tmp_path / out)


# -- data ---------------------------------------------------------------------------------------------------


def grey(index):
    image = np.full((8, 8, 3), index, np.uint8)
    return Sample(f"k{index}", image, "photo, grey", People.empty((8, 8)), "photo", "test", "CC0-1.0")


def test_data_show(tmp_path, capsys):
    write_shards(grey, 3, tmp_path / "set", workers=1, progress=False)
    assert run("data", "show", tmp_path / "set", "--out", tmp_path / "sheet.png") == 0
    assert "3 samples" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    assert "no shards there" in fails(capsys, "data", "show", tmp_path / "no", "--out", tmp_path / "x.png")


def test_data_atelier(tmp_path, capsys):
    make = [
        "data",
        "atelier",
        "--count",
        4,
        "--size",
        64,
        "--seed",
        5,
        "--out",
        tmp_path / "set",
        "--workers",
        1,
    ]
    assert run(*make) == 0
    assert "4 images in 1 shards" in capsys.readouterr().out
    assert run(*make) == 0
    capsys.readouterr()
    make[make.index("--seed") + 1] = 6
    err = fails(capsys, *make)
    assert "seed 5, now asked for 6" in err
    make[make.index("--size") + 1] = 7
    assert run(*make[:-4], "--out", tmp_path / "small", "--workers", 1) == 2
    assert "64 to 1024" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "small" / "manifest.json").exists()


# -- train --------------------------------------------------------------------------------------------------


def test_train_list_and_dry_run(tmp_path, capsys):
    assert run("train", "--list") == 0
    assert "pocket" in capsys.readouterr().out.splitlines()
    assert run("train", "pocket-clip", "--set", "steps=7", "--out", tmp_path / "run", "--dry-run") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["steps"] == 7
    assert not (tmp_path / "run").exists()


def test_train_names_the_mistake(capsys):
    assert "--list" in fails(capsys, "train")
    assert "pocket" in fails(capsys, "train", "no-such-preset")
    assert "images_" in fails(capsys, "train", "pocket", "--set", "images_=7", "--dry-run")


# -- the process --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["train", "--list"], ["--help"]])
def test_a_reader_that_leaves_is_no_error(words, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "humansd.cli", *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("humansd.training.run.run_preset", interrupted)
    assert run("train", "pocket") == 130
    assert "given again" in capsys.readouterr().err


def test_an_estimator_and_its_weights_are_one_option_everywhere():
    """NAME=SOURCE; what version 0.1 called the source is still read."""
    parser = build_parser()
    detect = ["pose", "detect", "photos", "--out", "poses"]
    commands = {
        "pose detect": detect,
        "pose score": ["pose", "score", "shards", "--out", "scores"],
        "generate": ["generate", "a man", "--pose", "photo.jpg"],
        "import": ["data", "import", "folder", "--out", "shards"],
        "studio": ["studio"],
    }
    for words in commands.values():
        args = parser.parse_args([*words, "--estimator", "vitpose=folder=1"])
        assert (args.estimator, args.source) == ("vitpose", "folder=1")
        assert parser.parse_args([*words, "--estimator", "vitpose"]).source == ""
    args = parser.parse_args([*detect, "--estimator", "vitpose", "--source", "folder"])
    assert (args.estimator, args.source) == ("vitpose", "folder")
    assert parser.parse_args(detect).estimator == "movenet"
    assert parser.parse_args(detect).device == "auto"
