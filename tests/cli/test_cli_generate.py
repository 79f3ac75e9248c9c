import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blob_people import BlobEstimator, paint
from humansd.cli import main
from humansd.inference.demo import next_command
from humansd.inference.image_info import read_png_info
from humansd.inference.pose_files import read_pose_files
from humansd.models.estimators import ESTIMATORS
from humansd.pipelines import HumanSDPipeline
from humansd.pose import People
from humansd.pose.errors import PoseError
from humansd.pose.formats import write_poses
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from tiny_pipeline import SIZE, standing, tiny_components

EXAMPLES = Path(__file__).parents[2] / "examples" / "poses"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-model")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder)
    return folder


@pytest.fixture
def generate(model, tmp_path, monkeypatch, capsys):
    """Runs `humansd generate` in a folder of its own; returns status, stdout, stderr and the folder."""
    monkeypatch.chdir(tmp_path)
    write_poses(tmp_path / "standing.json", {"standing": standing((32, 32))}, "coco")

    def run(*words, pose="standing.json", steps=2, name=model):
        options = ["--pose", pose, "--model", name, "--steps", steps]
        status = main(["generate", *map(str, words), *map(str, options)])
        out, err = capsys.readouterr()
        return status, out, err, tmp_path / "out"

    return run


def images(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*seed*.png"))}


def test_images_and_a_sheet(generate):
    status, out, _, folder = generate("photo, a man running", "--n", 3, "--seed", 5)
    assert status == 0
    assert sorted(images(folder)) == [f"standing_photo-a-man-running_seed{seed}.png" for seed in (5, 6, 7)]
    assert "3 images" in out
    assert "sheet.png" in out
    sheet = Image.open(folder / "sheet.png")
    assert sheet.width > 4 * SIZE


def test_an_image_says_how_it_was_made(generate):
    *_, folder = generate("a man", "--n", 1, "--seed", 9, "--guidance", 2.5, "--pose-guidance", 1.5, "--negative", "b")
    info = read_png_info(folder / "standing_a-man_seed9.png")
    assert (info["prompt"], info["negative_prompt"], info["seed"]) == ("a man", "b", 9)
    settings = info["settings"]
    assert (settings["num_inference_steps"], settings["guidance_scale"], settings["pose_guidance_scale"]) == (
        2,
        2.5,
        1.5,
    )
    assert People.from_json(info["people"]).equals(standing((32, 32)).fit(SIZE, SIZE), atol=1e-9)


def test_the_number_of_images_does_not_change_an_image(generate):
    *_, folder = generate("a man", "--n", 10)
    many = images(folder)
    *_, folder = generate("a man", "--n", 1, "--seed", 9, "--out", "other")
    one = images(folder.with_name("other"))
    name = "standing_a-man_seed9.png"
    assert np.abs(many[name].astype(int) - one[name]).max() <= 2


def test_other_settings_never_overwrite(generate):
    *_, folder = generate("a man", "--n", 1)
    first = images(folder)
    generate("a man", "--n", 1)
    assert images(folder).keys() == first.keys()
    generate("a man", "--n", 1, "--guidance", 9)
    now = images(folder)
    assert sorted(now) == ["standing_a-man_seed0-2.png", "standing_a-man_seed0.png"]
    assert (now["standing_a-man_seed0.png"] == first["standing_a-man_seed0.png"]).all()
    assert (folder / "sheet-2.png").exists()


def test_a_foreign_file_is_not_overwritten(generate, tmp_path):
    (tmp_path / "out").mkdir()
    precious = tmp_path / "out" / "standing_a-man_seed0.png"
    precious.write_bytes(b"precious")
    generate("a man", "--n", 1)
    assert precious.read_bytes() == b"precious"


def test_several_prompts_and_a_folder_of_poses(generate, tmp_path):
    (tmp_path / "poses").mkdir()
    for name in ("b", "a"):
        write_poses(tmp_path / "poses" / f"{name}.json", {name: standing((32, 32))}, "coco")
    status, _, _, folder = generate("a man", "a woman", "--n", 2, pose="poses")
    assert status == 0
    assert len(images(folder)) == 8
    assert len(read_png_info(folder / "sheet.png")["rows"]) == 4


def test_many_poses_make_several_sheets(generate, tmp_path):
    poses = {f"p{i:02}": standing((32, 32)) for i in range(26)}
    write_poses(tmp_path / "many.json", poses, "coco")
    *_, folder = generate("a man", "--n", 1, pose="many.json", steps=1)
    assert [len(read_png_info(folder / name)["rows"]) for name in ("sheet.png", "sheet-page2.png")] == [24, 2]


def test_a_declared_skeleton_is_used_as_it_is(generate, tmp_path):
    Image.fromarray(draw_people(standing((SIZE, SIZE)))).save(tmp_path / "drawn.png")
    status, _, _, folder = generate("a man", "--n", 1, "--pose-kind", "skeleton", pose="drawn.png")
    assert status == 0
    assert read_png_info(folder / "drawn_a-man_seed0.png")["people"] is None
    # The same drawing made from key points gives the same image.
    write_poses(tmp_path / "points.json", {"points": standing((SIZE, SIZE))}, "coco")
    generate("a man", "--n", 1, pose="points.json")
    made = images(folder)
    drawn, points = made["drawn_a-man_seed0.png"].astype(int), made["points_a-man_seed0.png"]
    assert np.abs(drawn - points).max() <= 2


def refused(result):
    status, out, err, folder = result
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert not list(folder.glob("*.png"))
    return err


def test_an_unknown_drawing_must_be_declared(generate, tmp_path):
    lines = draw_people(standing((256, 256))).max(axis=2)
    Image.fromarray(lines).save(tmp_path / "drawn.png")
    err = refused(generate("a man", pose="drawn.png"))
    assert "drawn.png" in err
    assert "--pose-kind skeleton" in err


def test_a_drawing_in_known_colors_is_read_back_to_key_points(generate, tmp_path):
    Image.fromarray(draw_people(standing((256, 256)), OPENPOSE_STYLE)).save(tmp_path / "drawn.png")
    for kind in ("auto", "skeleton"):
        status, _, err, folder = generate("a man", "--n", 1, "--pose-kind", kind, pose="drawn.png")
        assert status == 0
        assert "a drawing in OpenPose's colors, read back to key points: 1 person" in err
    assert len(read_png_info(folder / "drawn_a-man_seed0.png")["people"]["people"]) == 1


@pytest.fixture
def blobs(monkeypatch):
    """How often the estimator was loaded."""
    loaded = []

    def load(source, device):
        loaded.append(source)
        return BlobEstimator()

    monkeypatch.setitem(ESTIMATORS, "blobs", load)
    return loaded


def photo(path, n=1):
    """An image of n people whom the estimator of the tests finds, and these people."""
    xy = [[(8 + 8 * j, 10 + 20 * i + 10 * (j % 2)) for j in range(17)] for i in range(n)]
    people = People.of(xy, (160, 120))
    Image.fromarray(paint(people)).save(path, quality=100, subsampling=0)
    return people


def test_people_of_a_photo_are_detected(generate, tmp_path, blobs):
    people = photo(tmp_path / "photo.jpg", 2)
    status, out, _, folder = generate("a man", "--n", 1, "--estimator", "blobs", pose="photo.jpg")
    assert status == 0
    assert out.startswith("photo.jpg: 2 people found by blobs (17, 17 of 17 joints)\n")
    info = read_png_info(folder / "photo_a-man_seed0.png")
    drawn = People.from_json(info["people"])
    assert drawn.xy == pytest.approx(people.fit(SIZE, SIZE).xy, abs=0.1)
    assert drawn.canvas == (SIZE, SIZE)


def test_a_folder_of_photos(generate, tmp_path, blobs):
    (tmp_path / "photos").mkdir()
    for name in ("b", "a"):
        photo(tmp_path / "photos" / f"{name}.png")
    words = ("a man", "--n", 1, "--estimator", "blobs", "--source", "here")
    status, out, _, folder = generate(*words, pose="photos")
    assert status == 0
    assert out.splitlines()[:2] == [
        "a.png: 1 person found by blobs (17 of 17 joints)",
        "b.png: 1 person found by blobs (17 of 17 joints)",
    ]
    assert sorted(images(folder)) == ["a_a-man_seed0.png", "b_a-man_seed0.png"]
    assert blobs == ["here"]


def test_images_beside_pose_files_are_left_alone(generate, tmp_path, blobs):
    (tmp_path / "both").mkdir()
    photo(tmp_path / "both" / "photo.png")
    write_poses(tmp_path / "both" / "points.json", {"points": standing((32, 32))}, "coco")
    _, out, _, folder = generate("a man", "--n", 1, "--estimator", "blobs", pose="both")
    assert list(images(folder)) == ["points_a-man_seed0.png"]
    assert "found" not in out
    assert blobs == []


def test_a_photo_of_nobody_is_refused(generate, tmp_path, blobs):
    noise = np.random.default_rng(0).integers(0, 20, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.jpg")
    err = refused(generate("a man", "--estimator", "blobs", pose="photo.jpg"))
    assert "photo.jpg: nobody was found in it by blobs" in err
    assert "another --estimator" in err


def test_an_unreadable_photo_is_refused(generate, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"no image")
    assert "photo.jpg: not a readable image" in refused(generate("a man", pose="photo.jpg"))


def test_key_points_alone_take_no_photo(tmp_path):
    photo(tmp_path / "photo.png")
    with pytest.raises(PoseError, match="key points are needed"):
        read_pose_files(tmp_path / "photo.png")


def test_a_pose_file_with_nobody_is_refused(generate, tmp_path):
    write_poses(tmp_path / "nobody.json", {"nobody": People.empty((32, 32))}, "coco")
    err = refused(generate("a man", pose="nobody.json"))
    assert "nobody.json" in err
    assert "at least one person" in err


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["  "], {}, "the prompt is empty"),
        (["a man", "--n", 0], {}, "n is 0"),
        (["a man"], {"steps": 0}, "steps"),
        (["a man"], {"pose": "none.json"}, "none.json"),
        (["a man"], {"pose": "."}, "pose"),
        (["a man"], {"name": "./no/such/folder"}, "no such folder"),
        (["a man"], {"name": "nothing"}, "no such folder"),
        (["a man"], {"name": "."}, "model_index.json"),
        (["a man"], {"name": "nobody/nothing"}, "cannot be loaded"),
        (["a man", "--pose-kind", "skeleton"], {}, "no image"),
    ],
)
def test_mistakes_are_named_in_one_line(generate, tmp_path, words, options, message):
    if options.get("pose") == ".":
        (tmp_path / "standing.json").unlink()
    assert message in refused(generate(*words, **options))


def test_demo_draws_every_example_three_times(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--model", str(model), "--out", "demo"]) == 0
    out = capsys.readouterr().out
    made = sorted((tmp_path / "demo").glob("*seed*.png"))
    assert len(made) == 3 * len(list(EXAMPLES.glob("*.json"))) <= 24
    prompts = [read_png_info(path)["prompt"] for path in made]
    assert len({prompt.partition(",")[0] for prompt in prompts}) >= 8
    assert not any("{" in prompt for prompt in prompts)
    assert str(Path("demo") / "sheet.png") in out
    assert out.splitlines()[-1].strip() == next_command()


def test_the_next_command_works_as_printed(model, tmp_path, monkeypatch):
    command = shlex.split(next_command())
    program, words = command[: command.index("generate")], command[command.index("generate") :]
    words += ["--model", str(model), "--steps", "1", "--out", str(tmp_path)]
    done = subprocess.run([*program, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sheet" in done.stdout
    assert not [noise for noise in ("torchvision", "deprecated", "warning") if noise in done.stderr.lower()]


def test_examples_are_plain_coco_with_people_who_fill_the_canvas():
    files = sorted(EXAMPLES.glob("*.json"))
    counts = []
    for file in files:
        data = json.loads(file.read_text())
        assert "CC BY 4.0" in data["info"]["license"]
        (image,) = data["images"]
        joints = np.array([a["keypoints"] for a in data["annotations"]]).reshape(-1, 17, 3)
        seen = joints[..., 2] > 0
        assert (seen.sum(axis=1) >= 13).all()
        inside = joints[..., :2][seen]
        assert (inside >= 0).all()
        assert (inside < (image["width"], image["height"])).all()
        assert max(np.ptp(inside, axis=0) / (image["width"], image["height"])) > 0.6
        counts.append(len(joints))
    assert len(files) >= 8
    assert {1, 2, 3} == set(counts)
