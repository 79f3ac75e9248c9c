"""Imports of every layout: known images, poses and captions in, the same out, and what is left out told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from build_makers import image_bytes, standing, tar_of
from humansd.build.importing import ImportOptions, import_dataset, told
from humansd.build.layouts.find import read_layout
from humansd.build.layouts.records import LayoutError
from humansd.data.shards import read_shards, write_shards
from shared_data import COCO_PEOPLE, DATA

SIZE = (60, 40)


def put(folder, *names, size=SIZE):
    """Images of these names, each another."""
    for number, name in enumerate(names):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(len(str(path)) * 31 + number, size, "PNG" if path.suffix == ".png" else "JPEG"))


def imported(path, out, options=None, **more):
    options = options or ImportOptions(keep_empty=True, shortest=8)
    manifest = import_dataset(path, out, options, progress=False, **more)
    return {Path(sample.extras["origin"].get("file", sample.key)).name: sample for sample in read_shards(out)}, manifest


def left_out(manifest):
    return manifest["build"]["left_out"]


def test_a_metadata_folder(tmp_path):
    put(tmp_path / "in", "a.jpg", "sub/b.png", "c.jpg", "conditioning/a.png", "spare.jpg")
    lines = [
        json.dumps({"file_name": "a.jpg", "text": "a man", "conditioning_image": "conditioning/a.png"}),
        json.dumps({"image": "sub/b.png", "prompt": ["oil_painting, a woman", "a lady"]}),
        json.dumps({"file_name": "c.jpg"}),
        json.dumps({"file_name": "../../secret.jpg", "text": "no"}),
        json.dumps({"file_name": "gone.jpg", "text": "no"}),
        "{broken",
        json.dumps([1]),
    ]
    (tmp_path / "in" / "metadata.jsonl").write_text("\n".join(lines))
    put(tmp_path, "secret.jpg")
    samples, manifest = imported(tmp_path / "in", tmp_path / "out")
    assert {name: one.caption for name, one in samples.items()} == {"a.jpg": "a man", "b.png": "oil_painting, a woman"}
    assert samples["b.png"].scene == "oil_painting"
    assert samples["b.png"].extras["captions"] == ["a lady"]
    assert left_out(manifest) == {
        "caption: none": 1,
        "list: a line that is no record": 2,
        "list: an image that no line names": 1,
        "list: the image is missing": 2,
    }
    assert "captioner" in told(manifest)


def test_images_with_texts_beside_them(tmp_path):
    put(tmp_path / "in", "10_people/a.png", "b.jpg", "c.jpg")
    (tmp_path / "in/10_people/a.txt").write_text("1girl, solo,\n standing")
    (tmp_path / "in/b.caption").write_bytes("caf\xe9".encode("cp1252"))
    (tmp_path / "in/d.txt").write_text("an image that is gone")
    samples, manifest = imported(tmp_path / "in", tmp_path / "out")
    assert {name: one.caption for name, one in samples.items()} == {"a.png": "1girl, solo, standing", "b.jpg": "café"}
    assert left_out(manifest) == {"caption: none": 1, "list: a text without an image": 1}


def published_npz(path, xy):
    points = np.concatenate([xy, np.full((17, 1), 0.9)], axis=1)
    people = np.array([{"keypoints": points, "score": 0.8, "area": 100.0}], dtype=object)
    np.savez(path, people)


def test_the_mapping_file_of_humansd(tmp_path):
    root = tmp_path / "in"
    put(root, "images/1.jpg", "images/2.jpg", "images/3.jpg", "images/4.jpg")
    xy = standing(SIZE).xy[0]
    published_npz(root / "1.npz", xy)
    (root / "4.npz").write_bytes(b"PK broken")
    mapping = {
        "1": {"img_path": "images/1.jpg", "prompt": "dance, a dancer", "pose_path": "1.npz"},
        "2": {"img_path": "data/images/2.jpg", "prompt": "sketch, nobody's pose", "pose_path": ""},
        "3": {"img_path": "images/3.jpg", "prompt": "x", "pose_path": "3.npz"},
        "4": {"img_path": "images/4.jpg", "prompt": "x", "pose_path": "4.npz"},
        "5": {"img_path": "images/5.jpg", "prompt": "x", "pose_path": "1.npz"},
        "6": None,
    }
    (root / "mapping.json").write_text(json.dumps(mapping))
    samples, manifest = imported(root / "mapping.json", tmp_path / "out")
    assert set(samples) == {"1.jpg", "2.jpg"}
    assert samples["1.jpg"].scene == "dance"
    assert np.allclose(samples["1.jpg"].people.xy[0], xy)
    assert samples["1.jpg"].people.score.max() == pytest.approx(0.9)
    assert left_out(manifest) == {
        "decode: the pose cannot be read": 1,
        "list: no img_path or no prompt": 1,
        "list: the image is missing": 1,
        "list: the pose file is missing": 1,
    }


def coco_file(folder, images, notes, **more):
    categories = [{"id": 1, "name": "person"}]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    path = folder / "annotations" / "person_keypoints_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories, **more}))
    return path


def note(number, image, keypoints):
    flat = np.concatenate([keypoints, np.full((17, 1), 2)], axis=1).reshape(-1).tolist()
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 9.0, "keypoints": flat}


def test_coco_with_captions_licenses_and_one_odd_entry(tmp_path):
    root = tmp_path / "coco"
    put(root, "val2017/1.jpg", "val2017/2.jpg", "val2017/3.jpg")
    sized = {"width": SIZE[0], "height": SIZE[1], "license": 4}
    images = [{"id": n, "file_name": f"{n}.jpg", **sized} for n in (1, 2, 3, 4)] + [{"id": 9}]
    xy = standing(SIZE).xy[0]
    bad = {"id": 3, "image_id": 2, "category_id": 1, "keypoints": [1, 2]}
    path = coco_file(root, images, [note(1, 1, xy), note(2, 1, xy + 1), bad], licenses=[{"id": 4, "name": "CC BY"}])
    texts = [{"image_id": 1, "caption": "two men"}, {"image_id": 1, "caption": "men"}]
    texts += [{"image_id": n, "caption": "x"} for n in (2, 3)]
    (path.parent / "captions_val2017.json").write_text(json.dumps({"images": images, "annotations": texts}))
    samples, manifest = imported(root, tmp_path / "out")
    assert set(samples) == {"1.jpg", "3.jpg"}
    one = samples["1.jpg"]
    assert (one.caption, one.extras["captions"], one.license, one.people.n) == ("two men", ["men"], "CC BY", 2)
    assert np.allclose(one.people.xy[0], xy)
    assert samples["3.jpg"].people.n == 0
    assert left_out(manifest) == {
        "list: an image without id or file_name": 1,
        "list: the image is missing": 1,
        "list: the pose cannot be read": 1,
    }
    again, _ = imported(path, tmp_path / "by-file")
    assert set(again) == set(samples)


def test_human_art_with_21_joints_and_its_scenes(tmp_path):
    root = tmp_path / "HumanArt"
    put(root, "images/2D_virtual_human/oil_painting/1.jpg", "images/real_human/dance/2.jpg")
    names = ("HumanArt/images/2D_virtual_human/oil_painting/1.jpg", "HumanArt/images/real_human/dance/2.jpg")
    facts = [{"category": "oil painting", "description": "oil_painting, a lady", "author": "Somebody"}]
    facts += [{"category": "dance", "description": "dance, a dancer"}]
    images = [
        {"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1], **fact}
        for n, (name, fact) in enumerate(zip(names, facts, strict=True))
    ]
    xy = standing(SIZE).xy[0]
    one = note(1, 0, xy)
    one["keypoints_21"] = one["keypoints"] + [5.0, 6.0, 2.0] * 4
    (root / "annotations").mkdir()
    path = root / "annotations" / "validation_humanart.json"
    path.write_text(json.dumps({"images": images, "annotations": [one, note(2, 1, xy)]}))
    samples, _ = imported(path, tmp_path / "out")
    assert {one.scene for one in samples.values()} == {"oil_painting", "dance"}
    assert samples["1.jpg"].people.skeleton.name == "humanart21"
    assert samples["2.jpg"].people.skeleton.name == "coco17"
    assert samples["1.jpg"].extras["about"]["author"] == "Somebody"


def test_mpii_joints_land_on_those_of_coco(tmp_path):
    root = tmp_path / "mpii"
    put(root, "images/1.jpg")
    joints = [[10 + j, 20 + j] for j in range(16)]
    person = {"image": "1.jpg", "joints": joints, "joints_vis": [1] * 15 + [0], "center": [1, 1], "scale": 1.0}
    (root / "train.json").write_text(json.dumps([person, person, {"joints": joints}]))
    listing = read_layout(root)
    people = listing.items[1].people
    assert people.n == 2
    at = {
        name: people.xy[0, people.skeleton.index(name)].tolist() for name in ("right_ankle", "left_hip", "left_elbow")
    }
    assert at == {"right_ankle": [9, 19], "left_hip": [12, 22], "left_elbow": [23, 33]}  # MATLAB counts from 1
    absent = {people.skeleton.joints[j] for j in np.flatnonzero(~people.labelled[0])}
    assert absent == {"nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_wrist"}
    assert listing.items[0].left_out.reason == "a person without an image"


@pytest.mark.parametrize("odd", [{"image": "1.jpg"}, {}, 5])
def test_an_odd_first_record_of_mpii_costs_itself_alone(tmp_path, odd):
    put(tmp_path, "images/1.jpg", "images/2.jpg")
    person = {"image": "2.jpg", "joints": [[10 + i, 20 + i] for i in range(16)], "joints_vis": [1] * 16}
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "train.json").write_text(json.dumps([odd, person]))
    for path in (tmp_path, tmp_path / "annot" / "train.json"):
        found = read_layout(path)
        assert found.layout == "mpii"
        assert [item.origin["file"] for item in found.items if item.left_out is None] == ["images/2.jpg"]
        assert len(found.items) == 2


@pytest.mark.parametrize("odd", [{"prompt": "x"}, 5])
def test_an_odd_first_entry_of_the_mapping_file_costs_itself_alone(tmp_path, odd):
    put(tmp_path, "1.jpg")
    (tmp_path / "map.json").write_text(
        json.dumps({"0": odd, "1": {"img_path": "1.jpg", "prompt": "a", "pose_path": ""}})
    )
    found = read_layout(tmp_path)
    assert found.layout == "mapping"
    assert [item.left_out is None for item in found.items] == [False, True]


def structs(records):
    """A MATLAB struct array of records; a field that one of them lacks is empty there, as MATLAB has it."""
    names = list(dict.fromkeys(name for one in records for name in one))
    out = np.empty((1, len(records)), [(name, object) for name in names])
    for place, one in enumerate(records):
        out[0, place] = tuple(one.get(name, np.empty((0, 0))) for name in names)
    return out


def mpii_person(shift=0.0, joints=range(16)):
    seen = {0: "1", 1: "0", 2: 0, 3: 1}  # MPII has texts, numbers and, of the head, nothing
    points = [
        {"x": 11.0 + j + shift, "y": 21.0 + j, "id": j, **({"is_visible": seen[j]} if j in seen else {})}
        for j in joints
    ]
    return {"x1": 1.0, "scale": 1.2, "annopoints": structs([{"point": structs(points)}])}


def test_mpiis_own_mat_file(tmp_path):
    from scipy.io import savemat

    root = tmp_path / "mpii"
    put(root, *(f"images/{n}.jpg" for n in range(6)))
    people = [
        [mpii_person(), mpii_person(3.5, range(10, 16))],
        [mpii_person()],
        [{"scale": 1.0}],  # of the test set: without points
        [mpii_person(), {"scale": 1.0}],
        [mpii_person(joints=[3, 99])],
        [],
    ]
    entries = [
        {"image": structs([{"name": f"{n}.jpg"}]), "annorect": structs(few) if few else np.empty((0, 0))}
        for n, few in enumerate([*people, [mpii_person()]])
    ]
    acts = structs([{"cat_name": "sports", "act_name": "curling,  hard"}, *[{"cat_name": np.empty(0)}] * 6])
    release = {"annolist": structs(entries), "img_train": np.array([[1, 1, 0, 1, 1, 1, 1]]), "act": acts.T}
    savemat(root / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release}, do_compression=True)
    for found in (read_layout(root), read_layout(root / "mpii_human_pose_v1_u12_1.mat")):
        reasons = [one.left_out and one.left_out.reason for one in found.items]
        wrong = ["a person without a pose", "the pose cannot be read", "a person without a pose"]
        assert reasons == [None, None, None, *wrong, "the image is missing"]
    first, second, tested = found.items[:3]
    joints = first.people.skeleton.index
    assert first.people.n == 2
    assert first.people.canvas == SIZE
    assert first.people.xy[0, joints("left_wrist")].tolist() == [25, 35]
    assert first.people.xy[1, joints("right_wrist")].tolist() == [23.5, 30]
    assert first.people.labelled.sum(axis=1).tolist() == [12, 6]
    names = ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "nose")
    assert [first.people.visibility[0, joints(name)] for name in names] == [2, 1, 1, 2, 2, 0]
    assert first.extras["about"] == {"split": "train", "activity": "curling, hard", "kind": "sports"}
    assert (second.extras["about"], second.people.n) == ({"split": "train"}, 1)
    assert (tested.extras["about"], tested.people) == ({"split": "test"}, None)


def test_other_mat_files_are_refused_with_a_remedy(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "other.mat", {"RELEASE": {"something": 1}})
    with pytest.raises(LayoutError, match=r"no RELEASE\.annolist"):
        read_layout(tmp_path / "other.mat")
    (tmp_path / "broken.mat").write_bytes((tmp_path / "other.mat").read_bytes()[:150])
    with pytest.raises(LayoutError, match="cannot be read"):
        read_layout(tmp_path / "broken.mat")
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(LayoutError, match="'-v7'"):
        read_layout(tmp_path / "new.mat")
    (tmp_path / "other.mat").unlink()
    put(tmp_path, "a.jpg")
    assert read_layout(tmp_path).layout == "images"


def test_human_arts_twenty_scenes_are_told_from_category_description_or_folder(tmp_path):
    from humansd.build.layouts.records import SCENES

    assert len(SCENES) == len(set(SCENES)) == 20
    root = tmp_path / "HumanArt"
    images, notes = [], []
    for n, scene in enumerate(SCENES):
        name = f"images/some_human/{scene}/{n:012d}.jpg"
        put(root, name)
        told = [{"category": scene.replace("_", " ")}, {"description": f"{scene}, someone"}, {}][n % 3]
        images.append({"id": n, "file_name": f"HumanArt/{name}", "width": SIZE[0], "height": SIZE[1], **told})
        notes.append(note(n, n, standing(SIZE).xy[0]))
    (root / "annotations").mkdir()
    for split, few in (("training", images[:15]), ("validation", images[15:])):
        path = root / "annotations" / f"{split}_humanart.json"
        path.write_text(json.dumps({"images": few, "annotations": notes}))
    with pytest.raises(LayoutError, match=r"training_humanart\.json.*validation_humanart\.json.*name one"):
        read_layout(root)
    paths = [root / "annotations" / f"{split}_humanart.json" for split in ("training", "validation")]
    found = [item for path in paths for item in read_layout(path).items]
    assert [item.scene for item in found] == list(SCENES)
    assert all(item.left_out is None and item.people.n == 1 for item in found)


@pytest.mark.skipif(not (DATA / "humanart-sample").is_dir(), reason="needs the sample of Human-Art")
def test_published_human_art_keeps_its_scene_its_21_joints_and_who_made_it(tmp_path):
    source = DATA / "humanart-sample" / "test_humanart.json"
    samples, manifest = imported(source, tmp_path / "out")
    assert manifest["count"] == 3
    published = {one["id"]: one for one in json.loads(source.read_text())["images"]}
    for one in samples.values():
        known = published[one.extras["origin"]["id"]]
        assert one.scene == known["category"].replace(" ", "_")
        assert one.caption == known["description"]
        assert one.extras["about"]["author"] == known["author"]
        assert one.people.skeleton.name == "humanart21"
        assert one.people.n >= 1


def test_tars_of_img2dataset_and_open_clip(tmp_path):
    failed = json.dumps({"status": "failed_to_download", "error_message": "HTTP 404"}).encode()
    members = {
        "000.jpg": image_bytes(1, SIZE), "000.txt": b"one", "000.json": b'{"status": "success", "url": "http://x/1"}',
        "001.jpg": image_bytes(2, SIZE), "001.json": b'{"caption": "two", "status": "success"}',
        "002.jpg": image_bytes(3, SIZE), "002.json": failed,
        "003.txt": b"an image that is not there",
        "004.png": image_bytes(4, SIZE, "PNG"), "004.txt": b"four",
    }  # fmt: skip
    tar_of(tmp_path / "in/00000.tar", members)
    (tmp_path / "in/00001.tar").write_bytes((tmp_path / "in/00000.tar").read_bytes()[:1500])
    samples, manifest = imported(tmp_path / "in", tmp_path / "out")
    assert sorted(one.caption for one in samples.values()) == ["four", "one", "two"]
    assert left_out(manifest)["list: its download failed"] == 1
    assert left_out(manifest)["list: no image"] == 1
    assert left_out(manifest)["list: damaged tar"] >= 1


def test_a_plain_folder_with_poses_and_captions_of_models(tmp_path):
    put(tmp_path / "in", "a.jpg", "deep/b.png")
    with pytest.raises(LayoutError, match="2 x caption: none"):
        imported(tmp_path / "in", tmp_path / "no")
    options = ImportOptions(
        estimator="higherhrnet", captioner="transformers", captioner_weights=tiny_captioner(tmp_path)
    )
    options = ImportOptions(**{**vars(options), "keep_empty": True, "shortest": 8})
    samples, _ = imported(tmp_path / "in", tmp_path / "out", options)
    assert set(samples) == {"a.jpg", "b.png"}
    for sample in samples.values():
        assert sample.caption
        assert sample.extras["captions_by"] == "transformers"
        assert sample.extras["poses"] == "higherhrnet"


def tiny_captioner(folder):
    """A vision encoder with a text decoder, random weights, as `VisionEncoderDecoderModel` saves them."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import (
        GPT2Config,
        PreTrainedTokenizerFast,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    words = ["a", "person", "running", "[EOS]"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="a")),
        eos_token="[EOS]", pad_token="[EOS]",
    )  # fmt: skip
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = ViTConfig(image_size=32, patch_size=16, **small)
    text = GPT2Config(vocab_size=4, n_positions=80, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = 0
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 3
    out = Path(folder) / "captioner"
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(out)
    return str(out)


def test_our_own_shards_keep_people_scene_and_license(tmp_path):
    import shard_makers

    write_shards(shard_makers.make, 4, tmp_path / "in", per_shard=4, workers=1, progress=False)
    samples, _ = imported(tmp_path / "in", tmp_path / "out")
    wanted = [shard_makers.make(index) for index in range(4)]
    assert [one.caption for one in samples.values()] == [one.caption for one in wanted]
    for one, was in zip(samples.values(), wanted):
        assert one.people.equals(was.people)
        assert (one.scene, one.source, one.license) == (was.scene, was.source, was.license)
        assert np.array_equal(one.image, was.image)


def test_nothing_known_is_refused_with_what_is(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(LayoutError, match=r"metadata\.jsonl"):
            read_layout(path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(LayoutError, match="no known layout"):
        read_layout(tmp_path / "x.json")


def test_poses_of_another_shape_than_the_image_are_left_out(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg", size=(40, 60))
    images = [{"id": 1, "file_name": "1.jpg", "width": 60, "height": 40, "description": "x"}]
    images += [{"id": 2, "file_name": "2.jpg", "width": 80, "height": 120, "description": "twice as large"}]
    xy = standing(SIZE).xy[0]
    coco_file(tmp_path, images, [note(1, 1, xy), note(2, 2, xy)])
    samples, manifest = imported(tmp_path, tmp_path / "out")
    assert left_out(manifest) == {"decode: the poses are of another shape": 1}
    assert np.allclose(samples["2.jpg"].people.xy[0], (xy + 0.5) / 2 - 0.5)


@pytest.mark.skipif(not COCO_PEOPLE.exists(), reason="no real photographs beside this checkout")
def test_real_photographs_are_read_by_webdataset_and_datasets(tmp_path):
    webdataset, datasets = pytest.importorskip("webdataset"), pytest.importorskip("datasets")
    samples, manifest = imported(COCO_PEOPLE, tmp_path / "out", ImportOptions(max_side=160))
    assert (manifest["count"], left_out(manifest)) == (42, {})
    assert sum(one.people.n for one in samples.values()) == 103
    tars = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    read = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [json.loads(one["json"])["caption"] for one in read] == [one.caption for one in samples.values()]
    found = datasets.load_dataset(
        "webdataset", data_files={"train": tars}, split="train", cache_dir=str(tmp_path / "c")
    )
    assert len(found) == 42
    assert found[5]["json"]["caption"] == list(samples.values())[5].caption
    assert found[5]["jpg"].size == samples[Path(found[5]["json"]["extras"]["origin"]["file"]).name].people.canvas


@pytest.mark.parametrize(("kind", "names"), [("png", ("jpg", "png")), ("jpg", ("jpg", "jpeg"))])
def test_all_images_are_of_one_kind_as_datasets_asks_for(tmp_path, kind, names):
    """`datasets` infers from the first samples, and refuses, or leaves out, images of another kind."""
    datasets = pytest.importorskip("datasets")
    images, notes, texts = [], [], []
    (tmp_path / "in").mkdir()
    for n in range(9):
        size, name = ((90, 70), (300, 200))[n == 7], f"{n}.{names[n % 3 == 1]}"  # the large one is shrunk
        file = image_bytes(n, size, "PNG" if name.endswith("png") else "JPEG")
        (tmp_path / "in" / name).write_bytes(file)
        images.append({"id": n, "file_name": name, "width": size[0], "height": size[1]})
        notes.append(note(n, n, standing(size).xy[0]))
        texts += [{"image_id": n, "caption": f"a man, {n}"}] * (1 + (n == 8))
    (tmp_path / "in" / "person_keypoints.json").write_text(json.dumps({"images": images, "annotations": notes}))
    (tmp_path / "in" / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))
    samples, _ = imported(tmp_path / "in", tmp_path / "out", ImportOptions(max_side=128), per_shard=4)
    tars = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    read = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", cache_dir=str(tmp_path / "c"))
    assert set(read.column_names) == {"__key__", "__url__", kind, "json"}
    assert [one["json"]["caption"] for one in read] == [f"a man, {n}" for n in range(9)]
    for one, sample in zip(read, samples.values(), strict=True):
        assert (np.asarray(one[kind]) == sample.image).all()
        assert one[kind].format == ("PNG" if kind == "png" else "JPEG")
        exact = np.asarray(Image.open(tmp_path / "in" / sample.extras["origin"]["file"]).convert("RGB"))
        if exact.shape == sample.image.shape:
            assert (exact == sample.image).all()
    assert read[7][kind].size == (128, 85)


LAYOUTS = DATA / "pose-inputs" / "train"


@pytest.mark.skipif(not LAYOUTS.exists(), reason="no layouts of public tools beside this checkout")
@pytest.mark.parametrize("name", ["diffusers_folder", "kohya_folder", "img2dataset"])
def test_layouts_as_public_tools_write_them(tmp_path, name):
    samples, manifest = imported(LAYOUTS / name, tmp_path / "out")
    assert manifest["count"] == 6
    assert all(len(one.caption) > 20 for one in samples.values())
    assert left_out(manifest) == {}


def test_moved_folders_go_on_and_changed_ones_do_not(tmp_path):
    put(tmp_path / "in", "a.jpg")
    (tmp_path / "in/a.txt").write_text("a man")
    imported(tmp_path / "in", tmp_path / "out", ImportOptions(keep_empty=True, shortest=8, source="mine"))
    shutil.move(tmp_path / "in", tmp_path / "there")
    options = ImportOptions(keep_empty=True, shortest=8, source="mine")
    imported(tmp_path / "there", tmp_path / "out", options)
    (tmp_path / "there/a.txt").write_text("another man")
    with pytest.raises(ValueError, match="begun with source"):
        imported(tmp_path / "there", tmp_path / "out", options)


def test_images_are_counted_once(tmp_path):
    put(tmp_path / "in", "a.jpg")
    Image.open(tmp_path / "in/a.jpg").save(tmp_path / "in/b.png")
    for name in "ab":
        (tmp_path / f"in/{name}.txt").write_text("a man")
    _, manifest = imported(tmp_path / "in", tmp_path / "out")
    assert left_out(manifest) == {"duplicates: the same image": 1}
