"""Data sets as strangers write them: what a user relies on is that poses, captions and images come out right, that one
odd entry costs itself alone, and that nothing is lost without a word."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from build_makers import image_bytes, standing, tar_of
from humansd.build.importing import ImportOptions, import_dataset
from humansd.build.layouts.find import Given, read_layout
from humansd.build.layouts.records import LayoutError
from humansd.cli.__main__ import main
from humansd.data.sample import Sample
from humansd.data.shards import read_shards, write_shards
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

SIZE = (96, 64)
XY = standing(SIZE).xy[0]
WIDTH, HEIGHT = SIZE


def put(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
        path.write_bytes(image_bytes(sum(map(ord, name)), size, kind))


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def listed(path: Path, **given):
    """What a reader gives: image file -> item of those that are used, and the reasons of those left out."""
    found = read_layout(path, given=Given(**given))
    used = {item.origin["file"]: item for item in found.items if item.left_out is None}
    return used, [item.left_out for item in found.items if item.left_out], found.notes


def captions(used) -> dict[str, str]:
    return {file: item.caption for file, item in used.items()}


def counted(used) -> dict[str, int | None]:
    """Stem of an image -> how many people it has; None where that is not known."""
    return {Path(file).stem: None if item.people is None else item.people.n for file, item in used.items()}


def reasons(left_out) -> list[str]:
    return sorted(one.reason for one in left_out)


def record(number, name):
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}


def keypoints(visible: float = 2.0, xy=XY) -> list[float]:
    return np.column_stack([xy, np.full(len(xy), visible)]).reshape(-1).tolist()


def note(number, image, points=None, **more):
    points = keypoints() if points is None else points
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": points, **more}


def coco(folder: Path, images, notes, name: str = "person_keypoints.json", **more) -> Path:
    kinds = [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}, {"id": 2, "name": "dog"}]
    return write(folder, name, json.dumps({"images": images, "annotations": notes, "categories": kinds, **more}))


# -- lists of captions -------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "metadata.jsonl",
            b'\xef\xbb\xbf{"file_name": "a.jpg", "text": "caf\xc3\xa9"}\r\n{"file_name": "sub\\\\b.png"}',
        ),
        ("metadata.csv", "file_name,text\r\na.jpg,café\r\nsub/b.png,\r\n".encode("utf-16")),
        ("metadata.csv", "file_name;text\na.jpg;café\nsub/b.png;\n".encode("cp1252")),
        ("captions.csv", "image,caption\na.jpg,café\nsub/b.png,\n".encode()),
        ("train.tsv", "filepath\ttext\na.jpg\tcafé\nsub/b.png\t\n".encode()),
        ("train.jsonl", '{"image": "./a.jpg", "text": "café"}\n{"image": "sub/b.png"}'.encode()),
        ("data.json", '[{"image": "a.jpg", "caption": "café"}, {"image": "sub/b.png"}]'.encode()),
        ("captions.json", '{"a.jpg": "café", "sub/b.png": ""}'.encode()),
        ("meta_cap.json", '{"a": {"caption": "café"}, "/somewhere/sub/b": {"tags": ""}}'.encode()),
        ("prompt.json", '{"target": "a.jpg", "prompt": "café"}\n{"target": "sub/b.png", "prompt": ""}\n'.encode()),
    ],
)
def test_lists_of_captions_in_every_form_and_encoding(tmp_path, name, text):
    put(tmp_path, "a.jpg", "sub/b.png")
    write(tmp_path, name, text)
    for path in (tmp_path, tmp_path / name):
        used, left_out, _ = listed(path)
        assert captions(used) == {"a.jpg": "café", "sub/b.png": ""}
        assert left_out == []


def test_one_line_in_another_encoding_costs_no_other(tmp_path):
    names = [f"{n}.jpg" for n in range(3)]
    put(tmp_path, *names)
    rows = [f"{name},{'猫' * 9000} café".encode() for name in names]
    rows[1] = "1.jpg,café".encode("cp1252")
    write(tmp_path, "captions.csv", b"\xef\xbb\xbf" + b"\n".join([b"image,caption", *rows, b""]))
    used, _, _ = listed(tmp_path)
    assert [item.caption[-4:] for item in used.values()] == ["café"] * 3
    assert used["2.jpg"].caption.startswith("猫猫")


def test_several_captions_of_an_image_are_its_wordings(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, "captions.csv", "image,caption\na.jpg,one\na.jpg,two\nb.jpg,three\na.jpg,one\n")
    used, left_out, notes = listed(tmp_path)
    assert used["a.jpg"].caption == "one"
    assert used["a.jpg"].extras["captions"] == ["two"]
    assert left_out == []
    assert any("other wordings" in text for text in notes)


def test_a_table_with_a_comma_or_an_open_quote_never_cuts_a_caption_in_silence(tmp_path):
    put(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    write(
        tmp_path,
        "metadata.csv",
        'file_name,text\na.jpg,a man, tall\nb.jpg,"a ""fine"" man,\nold"\nc.jpg,"open\nd.jpg,x\n',
    )
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"b.jpg": 'a "fine" man, old'}
    details = {one.reason: one.detail for one in left_out}
    assert "metadata.csv, line 2" in details["a line with too many values"]
    assert "needs quotes" in details["a line with too many values"]
    assert "quote left open" in details["a line that is no record"]


def test_columns_of_other_names_are_told_and_can_be_named(tmp_path, capsys):
    put(tmp_path / "in", "a.jpg")
    write(tmp_path / "in", "metadata.csv", "picture,additional_feature\na.jpg,a man\n")
    command = ["data", "import", str(tmp_path / "in"), "--estimator", "none", "--keep-empty"]
    assert main([*command, "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err
    assert "metadata.csv, line 2: has picture, additional_feature" in told
    assert "--image-column" in told
    columns = ["--image-column", "picture"]
    assert main([*command, *columns, "--out", str(tmp_path / "no2")]) == 2
    assert "--caption-column" in capsys.readouterr().err
    columns += ["--caption-column", "additional_feature"]
    assert main([*command, *columns, "--out", str(tmp_path / "out")]) == 0
    assert [sample.caption for sample in read_shards(tmp_path / "out")] == ["a man"]


def test_odd_names_cost_their_own_lines(tmp_path):
    put(tmp_path, "a.jpg")
    names: list[object] = ["a.jpg", "y" * 300 + ".jpg", "", 5, "a\0.jpg", "../../etc/passwd"]
    write(tmp_path, "metadata.jsonl", "\n".join(json.dumps({"file_name": name, "text": "A"}) for name in names))
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"a.jpg": "A"}
    assert reasons(left_out) == [*["a line that names no image"] * 2, *["the image is missing"] * 3]


def test_accents_and_capitals_of_other_systems_are_the_same_names(tmp_path):
    put(tmp_path, unicodedata.normalize("NFD", "café.JPG"), "B.JPG")
    lines = [
        {"file_name": unicodedata.normalize("NFC", "café.jpg"), "text": "A"},
        {"file_name": "x/b.jpg", "text": "B"},
    ]
    write(tmp_path, "metadata.jsonl", "\n".join(map(json.dumps, lines)))
    used, left_out, _ = listed(tmp_path)
    assert sorted(item.caption for item in used.values()) == ["A", "B"]
    assert left_out == []


def test_a_missing_image_never_gives_its_caption_to_another_of_the_same_name(tmp_path):
    put(tmp_path, "cats/1.jpg", "cats/2.jpg")
    names = ["dogs/1.jpg", "cats/1.jpg", "dogs/2.jpg"]  # cats/2.jpg is in no line
    write(tmp_path, "metadata.jsonl", "\n".join(json.dumps({"file_name": name, "text": name}) for name in names))
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"cats/1.jpg": "cats/1.jpg"}
    assert reasons(left_out) == ["an image that no line names", "the image is missing", "the image is missing"]
    assert any("dogs/1.jpg (cats/1.jpg is called so too" in one.detail for one in left_out)


def test_one_image_of_two_names_that_fit_alike_is_nobodys(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg")
    names = ["/there/cats/1.jpg", "/there/dogs/1.jpg", "/there/dogs/2.jpg"]
    write(tmp_path, "captions.json", json.dumps({name: name for name in names}))
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"2.jpg": "/there/dogs/2.jpg"}
    assert "the image is missing" in reasons(left_out)


def test_lists_of_several_folders_do_not_take_each_others_images(tmp_path):
    put(tmp_path, "cats/1.jpg", "dogs/2")
    (tmp_path / "dogs" / "2").rename(tmp_path / "dogs" / "2.jpg")
    for folder in ("cats", "dogs"):
        lines = [json.dumps({"file_name": f"{n}.jpg", "text": f"{folder} {n}"}) for n in (1, 2)]
        write(tmp_path, f"{folder}/metadata.jsonl", "\n".join(lines))
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"cats/1.jpg": "cats 1", "dogs/2.jpg": "dogs 2"}
    assert reasons(left_out) == ["the image is missing"] * 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.jsonl", '{"id": 0}\n{"image": "a.jpg", "text": "A"}\n'),
        ("train.jsonl", 'broken\n{"image": "a.jpg", "text": "A"}\n'),
        ("data.json", '[{"about": "a list"}, {"image": "a.jpg", "caption": "A"}]'),
        ("captions.json", '{"_comment": "a list", "a.jpg": "A"}'),
        ("captions.json", '{"b.jpg": null, "a.jpg": "A"}'),
        ("captions.json", '{"image": 5}\n{"image": "a.jpg", "text": "A"}'),
        ("meta_cap.json", '{"b": {}, "a": {"caption": "A"}}'),
    ],
)
def test_an_odd_first_entry_costs_itself_alone(tmp_path, name, text):
    put(tmp_path, "a.jpg")
    write(tmp_path, name, text)
    used, left_out, _ = listed(tmp_path)
    assert captions(used) == {"a.jpg": "A"}
    assert len(left_out) == 1


# -- texts beside images -----------------


def test_kohyas_folders_with_all_that_lies_in_them(tmp_path):
    put(
        tmp_path,
        "10_ppl/A.JPG",
        "10_ppl/b.bmp",
        "c.v2.jpg",
        "-d.jpg",
        "e.jpg",
        "both.jpg",
        "__MACOSX/A.JPG",
        ".h/h.jpg",
    )
    texts = {"10_ppl/A.txt": "1girl, solo", "10_ppl/b.TXT": "upper", "c.v2.txt": "dots", "-d.caption": "dash"}
    texts |= {"e.jpg.txt": "twice", "both.txt": "tags", "both.caption": "a man", ".h/h.txt": "no", "spare.txt": "x"}
    for name, text in texts.items():
        write(tmp_path, name, text)
    for name in ("Thumbs.db", ".DS_Store", "._e.jpg", "photo.heic", "f.AVIF"):
        write(tmp_path, name, "junk")
    used, left_out, _ = listed(tmp_path)
    wanted = {"10_ppl/A.JPG": "1girl, solo", "10_ppl/b.bmp": "upper", "c.v2.jpg": "dots", "-d.jpg": "dash"}
    assert captions(used) == {**wanted, "e.jpg": "twice", "both.jpg": "tags"}
    assert used["both.jpg"].extras["captions"] == ["a man"]
    assert reasons(left_out) == ["a kind of image that is not read"] * 2 + ["a text without an image"]


def test_links_out_of_the_folder_are_told_with_a_remedy(tmp_path):
    put(tmp_path / "real", "a.jpg")
    put(tmp_path / "in", "b.jpg")
    for name in ("a", "b"):
        write(tmp_path / "in", f"{name}.txt", name)
    os.symlink(tmp_path / "real" / "a.jpg", tmp_path / "in" / "a.jpg")
    os.symlink(tmp_path / "real", tmp_path / "in" / "more")
    os.symlink(tmp_path / "gone.jpg", tmp_path / "in" / "gone.jpg")
    options = ImportOptions(keep_empty=True)
    manifest = import_dataset(tmp_path / "in", tmp_path / "out", options, progress=False)
    assert [sample.caption for sample in read_shards(tmp_path / "out")] == ["b"]
    told = (tmp_path / "out" / "left-out.jsonl").read_text()
    assert manifest["build"]["left_out"] == {"list: a folder that is a link": 1, "read: a link out of the folder": 1}
    assert "cp -rL" in told
    assert "import the folder that it leads to" in told


# -- COCO and its kin --------------------


def test_ids_as_texts_and_as_numbers_are_the_same(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    coco(
        tmp_path,
        [record("1", "1.jpg"), record(2, "2.jpg"), record(3, "3.jpg")],
        [note(1, 1), note(2, "2"), note(3, 3.0)],
    )
    used, _, _ = listed(tmp_path)
    assert [item.people.n for item in used.values()] == [1, 1, 1]
    assert all(np.allclose(item.people.xy[0], XY) for item in used.values())


def test_odd_annotations_cost_their_images_and_are_named_by_their_place_in_the_file(tmp_path):
    put(tmp_path, *(f"{n}.jpg" for n in range(1, 7)))
    short, nan, texts = keypoints()[:-1], [float("nan"), *keypoints()[1:]], [str(v) for v in keypoints()]
    notes = [note(11, 1), note(12, 2, short), note(13, 3, nan), note(14, 4, texts), note(15, 5, keypoints(5))]
    notes += [note(16, 6, num_keypoints=None, area=0, bbox=[0, 0, 0, 0])]
    coco(tmp_path, [record(n, f"{n}.jpg") for n in range(1, 7)], notes)
    used, left_out, notes_told = listed(tmp_path)
    assert set(used) == {"1.jpg", "4.jpg", "6.jpg"}
    assert np.allclose(used["4.jpg"].people.xy[0], XY)
    details = [one.detail for one in left_out]
    assert [one.reason for one in left_out] == ["the pose cannot be read"] * 3
    assert "2.jpg: annotations[1] (id 12).keypoints: has 50 numbers, not 51" in details[0]
    assert "annotations[2] (id 13).keypoints: holds NaN" in details[1]
    assert "annotations[4] (id 15)" in details[2]
    assert notes_told == ()


def test_what_belongs_to_no_person_no_image_or_is_there_twice_is_counted(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    images = [record(n, f"{n}.jpg") for n in (1, 2, 3)]
    notes = [
        note(1, 1),
        note(2, 1),  # the same person again
        {"id": 3, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},  # a dog's box
        note(4, 2, category_id=2),  # a dog's joints
        {"id": 5, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]},  # a person's box
        note(6, 3, iscrowd="0"),
        note(7, 999),
        None,
    ]
    coco(tmp_path, images, notes)
    used, left_out, told = listed(tmp_path)
    assert [item.people.n for item in used.values()] == [1, 0, 1]
    assert used["1.jpg"].extras["people_listed_twice"] == 1
    assert used["2.jpg"].extras["people_without_pose"] == 1
    assert left_out == []
    text = "; ".join(told)
    assert "2 annotations name no image" in text
    assert "1 people are listed twice" in text
    assert "1 annotations are of other categories than people (2)" in text


def test_an_image_listed_twice_keeps_all_its_people_and_an_id_of_two_images_is_refused(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    images = [record(1, "1.jpg"), record(9, "1.jpg"), record(2, "2.jpg"), record(2, "3.jpg")]
    coco(tmp_path, images, [note(1, 1), note(2, 9, keypoints(xy=XY + 1)), note(3, 2)])
    used, left_out, _ = listed(tmp_path)
    assert {file: item.people.n for file, item in used.items()} == {"1.jpg": 2}
    assert reasons(left_out) == ["an id that several images have"] * 2 + ["an image that is listed twice"]


@pytest.mark.parametrize(
    ("list_name", "image"),
    [
        ("annotations/coco_wholebody_val_v1.0.json", "val2017/1.jpg"),
        ("json/crowdpose_train.json", "images/1.jpg"),
        ("annot/train.json", "images/1.jpg"),
        ("train/_annotations.coco.json", "train/1.jpg"),
        ("labels_my-project.json", "1.JPG"),
    ],
)
def test_lists_are_found_where_data_sets_have_them_and_so_are_their_images(tmp_path, list_name, image):
    put(tmp_path, image)
    path = coco(tmp_path, [{"id": 1, "file_name": "1.jpg"}], [note(1, 1)], list_name)  # without width and height
    for place in (tmp_path, path):
        used, left_out, _ = listed(place)
        assert left_out == []
        (item,) = used.values()
        assert np.allclose(item.people.xy[0], XY)
        assert item.people.canvas == SIZE


def test_images_of_another_split_are_not_taken_for_those_of_a_list(tmp_path):
    put(tmp_path, "val2017/1.jpg")
    path = coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)], "annotations/person_keypoints_train2017.json")
    used, left_out, _ = listed(path)
    assert (used, reasons(left_out)) == ({}, ["the image is missing"])


@pytest.mark.parametrize("root", ["", "HumanArt/"])
def test_a_missing_image_never_gives_its_pose_to_another_of_the_same_name(tmp_path, root):
    put(tmp_path, "images/mural/1.jpg", "images/mural/2.jpg")
    names = [f"{root}images/{name}.jpg" for name in ("dance/1", "mural/1", "dance/2")]  # mural/2 is of another list
    notes = [note(n, n, keypoints(xy=XY + n)) for n in range(3)]
    path = coco(tmp_path, [record(n, name) for n, name in enumerate(names)], notes, "annotations/training.json")
    used, left_out, _ = listed(path)
    assert set(used) == {"images/mural/1.jpg"}
    assert np.allclose(used["images/mural/1.jpg"].people.xy[0], XY + 1)
    assert reasons(left_out) == ["the image is missing"] * 2


@pytest.mark.parametrize("route", ["file", "folder"])
def test_of_a_list_without_key_points_nobody_says_that_the_images_are_empty(tmp_path, route):
    put(tmp_path, "val2017/1.jpg", "val2017/2.jpg")
    images = [record(n, f"{n}.jpg") for n in (1, 2)]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    texts = [{"id": n, "image_id": image, "caption": f"text {n}"} for n, image in enumerate((1, 1, 2))]
    boxes = coco(tmp_path, images, [box], "annotations/instances_val2017.json")
    path = write(tmp_path, "annotations/captions_val2017.json", json.dumps({"images": images, "annotations": texts}))
    used, left_out, _ = listed(path if route == "file" else tmp_path)
    assert (counted(used), left_out) == ({"1": None, "2": None}, [])
    assert captions(used) == {"val2017/1.jpg": "text 0", "val2017/2.jpg": "text 2"}
    assert used["val2017/1.jpg"].extras["captions"] == ["text 1"]
    assert counted(listed(boxes)[0]) == {"1": None, "2": None}
    with pytest.raises(LayoutError, match=r"no pose is known.*--estimator"):
        import_dataset(path if route == "file" else tmp_path, tmp_path / "out", progress=False)


def test_a_list_with_an_entry_a_line_is_no_list_of_captions(tmp_path):
    put(tmp_path, "1.jpg")
    path = coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)])
    path.write_text(path.read_text().replace("[{", "[\n{").replace("}]", "}\n]"))
    assert '\n{"id": 1, "file_name": "1.jpg"' in path.read_text()
    assert counted(listed(tmp_path)[0]) == {"1": 1}


def test_key_points_and_captions_in_one_list_are_both_read(tmp_path):
    put(tmp_path, "1.jpg")
    coco(tmp_path, [record(1, "1.jpg")], [note(1, 1), {"id": 2, "image_id": 1, "caption": "a man"}])
    used, _, notes = listed(tmp_path)
    assert (counted(used), captions(used)) == ({"1": 1}, {"1.jpg": "a man"})
    assert "people_without_pose" not in used["1.jpg"].extras
    assert notes == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.json", '[{"image": "1.jpg", "caption": "a man"}, {"image": "9.jpg", "caption": "nobody"}]'),
        ("captions.json", '{"1.jpg": "a man", "9.jpg": "nobody"}'),
        ("captions.jsonl", '{"image": "1.jpg", "caption": "a man"}\n{"image": "9.jpg", "caption": "nobody"}'),
        ("captions.json", '{"image": "1.jpg", "caption": "a man"}\n{"image": "9.jpg", "caption": "nobody"}'),
        ("texts.csv", "image,caption\n1.jpg,a man\n9.jpg,nobody\n"),
    ],
)
def test_captions_by_the_names_of_images_are_read_beside_a_list_of_poses(tmp_path, name, text):
    put(tmp_path, "1.jpg")
    path = coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)])
    write(tmp_path, name, text)
    for place in (path, tmp_path):
        used, left_out, notes = listed(place)
        assert (counted(used), captions(used), left_out) == ({"1": 1}, {"1.jpg": "a man"}, [])
        assert notes == (f"1 lines of {name} are of no image of the list and not used",)


@pytest.mark.parametrize("text", ["[1, 2]", '"a man"', '{"annotations": 5}', '{"annotations": [{"caption": 5}]}'])
def test_captions_beside_a_list_of_poses_that_are_not_read_are_told(tmp_path, text):
    put(tmp_path, "1.jpg")
    path = coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)], "annotations/list.json")
    write(tmp_path, "annotations/captions.json", text)
    write(tmp_path, "more.zip", b"PK")
    assert counted(listed(path)[0]) == {"1": 1}
    assert listed(path)[2] == ("not read: captions.json",)
    assert listed(tmp_path)[2] == ("not read: more.zip, captions.json",)


def test_a_list_of_poses_takes_the_texts_beside_its_images_and_tells_of_images_it_does_not_name(tmp_path):
    put(tmp_path, "1.jpg", "2.jpg")
    for name in "12":
        write(tmp_path, f"{name}.txt", f"text {name}")
    coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)])
    used, _, notes = listed(tmp_path)
    assert captions(used) == {"1.jpg": "text 1"}
    assert "1 images lie beside those of the list and are not in it" in notes


def test_a_broken_list_beside_images_is_refused_by_name(tmp_path):
    put(tmp_path, "1.jpg")
    path = write(tmp_path, "person_keypoints.json", '{"images": [{"id": 1,')
    with pytest.raises(LayoutError, match=r"person_keypoints\.json: cannot be read"):
        read_layout(path.parent)


def test_lists_of_splits_are_named_and_not_passed_over(tmp_path):
    for split in ("train", "valid"):
        put(tmp_path, f"{split}/1.jpg")
        coco(tmp_path, [record(1, "1.jpg")], [note(1, 1)], f"{split}/_annotations.coco.json")
    with pytest.raises(LayoutError, match=r"several lists \(train/_annotations.coco.json, valid/.*name one"):
        read_layout(tmp_path)


# -- poses of other tools ----------------


def openpose(*people) -> str:
    return json.dumps({"version": 1.3, "people": list(people)})


def body18(**more):
    points = np.zeros((18, 3))
    order = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]  # OpenPose's place of each of COCO's joints
    points[order] = np.column_stack([XY, np.full(17, 0.9)])
    return {"pose_keypoints_2d": points.reshape(-1).tolist(), **more}


@pytest.mark.parametrize("place", ["{}_keypoints.json", "json/{}_keypoints.json"])
def test_openposes_files_beside_images_or_in_a_folder_of_their_own(tmp_path, place):
    put(tmp_path, *(f"images/{n}.jpg" for n in range(5)))
    for n in range(5):
        write(tmp_path, f"images/{n}.txt", f"text {n}")
    files = [[body18()], [], [body18(), {"pose_keypoints_2d": [1, 2]}], [body18(), {"pose_keypoints_2d": None}]]
    for n, people in enumerate(files):
        write(tmp_path / "images" if "/" not in place else tmp_path, place.format(n), openpose(*people))
    write(tmp_path / ("images" if "/" not in place else ""), place.format(77), openpose(body18()))
    used, left_out, notes = listed(tmp_path)
    assert counted(used) == {"0": 1, "1": 0, "3": 1, "4": None}
    people = used["images/0.jpg"].people.to_skeleton(COCO17)
    assert np.allclose(people.xy[0], XY)
    assert used["images/3.jpg"].extras["people_without_pose"] == 1
    assert used["images/0.jpg"].caption == "text 0"
    details = {one.reason: one.detail for one in left_out}
    assert set(details) == {"the pose cannot be read", "a pose without an image"}
    assert "images/2.jpg" in details["the pose cannot be read"]
    assert "people[1].pose_keypoints_2d" in details["the pose cannot be read"]
    assert any("1 of 5 images have no pose in the pose files (images/4.jpg)" in text for text in notes)


@pytest.mark.parametrize("place", ["in", "poses"])
def test_poses_of_another_folder_are_not_taken_for_images_of_the_same_name(tmp_path, place):
    put(tmp_path / "in", "val/1.jpg", "val/2.jpg")
    for name in ("train/1", "train/2", "val/1"):
        people = [body18()] * (1 if name == "val/1" else 2)
        write(tmp_path / place, f"{name}_keypoints.json", openpose(*people))
    given = {} if place == "in" else {"poses": tmp_path / "poses"}
    used, left_out, _ = listed(tmp_path / "in", **given)
    assert counted(used) == {"1": 1, "2": None}
    assert reasons(left_out) == ["a pose without an image"] * 2


@pytest.mark.parametrize("kind", ["openpose", "yolo"])
def test_where_folders_of_poses_are_those_of_images_others_are_of_no_image(tmp_path, kind):
    put(tmp_path / "in", "cats/1.jpg", "cats/2.jpg", "birds/3.jpg")
    for name, people in (("birds/1", 2), ("cats/1", 1), ("dogs/1", 2), ("dogs/3", 2)):
        if kind == "yolo":
            write(tmp_path / "poses", f"{name}.txt", yolo() * people)
        else:
            write(tmp_path / "poses", f"{name}_keypoints.json", openpose(*[body18()] * people))
    used, left_out, _ = listed(tmp_path / "in", poses=tmp_path / "poses")
    assert counted(used) == {"1": 1, "2": None, "3": None}
    assert reasons(left_out) == ["a pose without an image"] * 3


def test_poses_in_a_folder_of_any_name_are_those_of_images_in_another(tmp_path):
    put(tmp_path, "photos/1.jpg")
    write(tmp_path, "openpose_out/1_keypoints.json", openpose(body18()))
    used, left_out, _ = listed(tmp_path)
    assert (counted(used), left_out) == ({"1": 1}, [])


def yolo(kind: int = 0) -> str:
    joints = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f} 2" for x, y in XY)
    return f"{kind} 0.5 0.5 0.75 0.95 {joints}\n"


@pytest.mark.parametrize("place", ["{kind}/train/{name}", "train/{kind}/{name}", "{name}"])
def test_yolos_labels_are_poses_and_no_captions(tmp_path, place):
    def at(kind: str, name: str) -> str:
        return place.format(kind=kind, name=name)

    put(tmp_path, *(at("images", f"{n}.jpg") for n in range(4)))
    labels = [yolo() + yolo(1), "", yolo() + "0 0.5 x\n", "0 0.5 0.5 0.7 0.9\n"]
    for n, label in enumerate(labels):
        write(tmp_path, at("labels", f"{n}.txt"), label)
    write(tmp_path, "data.yaml", "kpt_shape: [17, 3]\nnames:\n  0: person\n  1: dog\n")
    for path in (tmp_path, tmp_path / "data.yaml"):
        used, left_out, notes = listed(path)
        assert counted(used) == {"0": 1, "1": 0}
        assert np.allclose(used[at("images", "0.jpg")].people.xy[0], XY, atol=1e-3)
        assert set(captions(used).values()) == {""}
        assert reasons(left_out) == ["the pose cannot be read"] * 2
        assert "1 labels are of other classes than people" in notes


def cvat(*names: str) -> str:
    def joint(name, x, y):
        hidden, outside = int(name == "nose"), int(name == "left_eye")
        return f'<points label="{name}" occluded="{hidden}" outside="{outside}" points="{x:.2f},{y:.2f}"/>'

    person = f'<skeleton label="person">{"".join(joint(n, x, y) for n, (x, y) in zip(COCO17.joints, XY))}</skeleton>'
    images = "".join(
        f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}">{person}</image>' for name in names
    )
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{images}</annotations>'


def label_studio(name: str) -> str:
    points = [
        {"original_width": WIDTH, "original_height": HEIGHT,
         "value": {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "keypointlabels": [joint]}}
        for joint, (x, y) in zip(COCO17.joints, XY)
    ]  # fmt: skip
    return json.dumps([{"id": 1, "data": {"image": f"/data/upload/3/{name}"}, "annotations": [{"result": points}]}])


def test_exports_of_annotation_tools_find_their_images(tmp_path):
    put(tmp_path, "images/1.jpg", "images/2.jpg")
    path = write(tmp_path, "annotations.xml", cvat("sub/1.jpg", "gone.jpg"))
    used, left_out, _ = listed(tmp_path)
    people = used["images/1.jpg"].people
    assert np.allclose(people.xy[0, 2:], XY[2:], atol=0.01)
    assert people.visibility[0, :3].tolist() == [1, 0, 2]
    assert used["images/2.jpg"].people is None
    assert reasons(left_out) == ["a pose without an image"]
    used, left_out, _ = listed(path)
    assert set(used) == {"images/1.jpg"}
    assert reasons(left_out) == ["a pose without an image", "an image that the list does not name"]


def test_label_studios_names_of_uploads_are_those_of_the_files(tmp_path):
    put(tmp_path, "1.jpg")
    write(tmp_path, "export.json", label_studio("0a1b2c3d-1.jpg"))
    used, left_out, _ = listed(tmp_path)
    assert left_out == []
    assert np.allclose(used["1.jpg"].people.xy[0], XY, atol=0.1)


def test_poses_can_be_named_for_any_images_with_captions(tmp_path):
    put(tmp_path / "in", "1.jpg", "2.jpg")
    write(tmp_path / "in", "metadata.jsonl", '{"file_name": "1.jpg", "text": "A"}\n{"file_name": "2.jpg", "text": "B"}')
    write(tmp_path / "poses", "1_keypoints.json", openpose(body18()))
    of_coco = coco(tmp_path, [record(2, "2.jpg"), record(3, "3.jpg")], [note(1, 2), note(2, 3)], "elsewhere/list.json")
    used, left_out, _ = listed(tmp_path / "in", poses=tmp_path / "poses")
    assert counted(used) == {"1": 1, "2": None}
    assert captions(used) == {"1.jpg": "A", "2.jpg": "B"}
    assert left_out == []
    used, left_out, _ = listed(tmp_path / "in", poses=of_coco)
    assert counted(used) == {"1": None, "2": 1}
    assert reasons(left_out) == ["the image is missing"]
    with pytest.raises(LayoutError, match="gone: there is no such file"):
        listed(tmp_path / "in", poses=tmp_path / "gone")


def test_an_order_of_joints_that_a_file_does_not_name_can_be_given(tmp_path, capsys):
    put(tmp_path / "in", "1.jpg")
    images = [record(1, "1.jpg")]
    points = [v for x, y in np.linspace((10, 5), (80, 60), 14) for v in (x, y, 2.0)]
    write(tmp_path / "in", "list.json", json.dumps({"images": images, "annotations": [note(1, 1, points)]}))
    command = ["data", "import", str(tmp_path / "in"), "--estimator", "none", "--caption", "x"]
    assert main([*command, "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err
    assert "1.jpg: annotations[0] (id 1).keypoints" in told
    assert "--joints" in told
    assert main([*command, "--joints", "crowdpose14", "--out", str(tmp_path / "out")]) == 0
    (sample,) = read_shards(tmp_path / "out")
    assert np.allclose(sample.people.xy[0, COCO17.index("left_shoulder")], (10, 5), atol=0.5)
    assert main([*command, "--joints", "nothing", "--out", str(tmp_path / "no2")]) == 2


def test_what_is_read_otherwise_than_written_is_told(tmp_path):
    put(tmp_path, *(f"{n}.jpg" for n in range(4)))
    loud = body18()
    loud["pose_keypoints_2d"] = [1.4 if n % 3 == 2 and v else v for n, v in enumerate(loud["pose_keypoints_2d"])]
    far = body18(hand_left_keypoints_2d=[1.0] * 63)
    far["pose_keypoints_2d"][0] = 500.0
    for n, person in enumerate([loud, loud, far, body18()]):
        write(tmp_path, f"{n}_keypoints.json", openpose(person))
    used, left_out, notes = listed(tmp_path)
    assert (len(used), left_out) == (4, [])
    assert any("clipped to 0..1 (and so of 1 more)" in text for text in notes)
    assert "hands, faces, feet or other joints of 1 people are not stored" in notes
    assert "1 joints in 1 images lie outside their image; they are kept" in notes


def test_shares_in_a_list_of_pixels_are_refused_until_they_are_called_so(tmp_path):
    put(tmp_path, "1.jpg")
    points = keypoints(xy=(XY + 0.5) / SIZE)
    coco(tmp_path, [record(1, "1.jpg")], [note(1, 1, points)])
    _, (left_out,), _ = listed(tmp_path)
    assert "--units shares" in left_out.detail
    used, _, _ = listed(tmp_path, units="shares")
    assert np.allclose(used["1.jpg"].people.xy[0], XY, atol=1)


# -- tars and what is refused ------------


def test_tars_with_other_names_of_members(tmp_path):
    members = {
        "1.image.jpg": image_bytes(1), "1.caption.txt": b"one", "1.mask.png": image_bytes(9, kind="PNG"),
        "2.webp": image_bytes(2, kind="WEBP"), "2.json": b'{"prompt": "two"}',
        "3.source.jpg": image_bytes(3), "3.target.jpg": image_bytes(4), "3.txt": b"three",
        "4.json": b'{"status": "failed_to_download", "error_message": "HTTP 404"}',
    }  # fmt: skip
    tar_of(tmp_path / "x.tar", members)
    found = read_layout(tmp_path)
    assert [item.caption for item in found.items if not item.left_out] == ["one", "two"]
    left_out = {item.left_out.reason: item.left_out.detail for item in found.items if item.left_out}
    assert left_out["its download failed"] == "HTTP 404"
    assert "source.jpg, target.jpg" in left_out["several images"]


def test_masks_of_our_own_shards_are_not_carried_and_that_is_told(tmp_path):
    def make(index):
        image = np.full((HEIGHT, WIDTH, 3), 40 * index, np.uint8)
        mask = {"mask": np.zeros((HEIGHT, WIDTH), np.uint8)} if index else {}
        return Sample(f"{index:06}", image, "x", People.of([XY], SIZE), "photo", "mine", "CC0-1.0", mask)

    write_shards(make, 3, tmp_path / "in", workers=1, progress=False)
    found = read_layout(tmp_path / "in")
    assert [item.people.n for item in found.items] == [1, 1, 1]
    assert "2 samples have a mask" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("data.zip", "unpack it"), ("x.tar.gz", "unpack it"), ("train.parquet", "metadata.jsonl"), ("notes.docx", "name")],
)
def test_what_is_not_read_is_refused_by_name_with_a_remedy(tmp_path, name, remedy):
    path = write(tmp_path, name, b"PK..")
    with pytest.raises(LayoutError, match=f"{name}.*{remedy}"):
        read_layout(path)
    if name != "notes.docx":
        with pytest.raises(LayoutError, match=f"{name}.*{remedy}"):
            read_layout(tmp_path)


def test_what_lies_beside_and_is_not_read_is_told(tmp_path):
    put(tmp_path, "a.jpg")
    write(tmp_path, "a.txt", "A")
    write(tmp_path, "config.json", '{"resolution": 512}')
    _, _, notes = listed(tmp_path)
    assert notes == ("not read: config.json",)
    write(tmp_path, "metadata.jsonl", '{"file_name": "a.jpg", "text": "A"}')
    write(tmp_path, "captions.csv", "image,caption\na.jpg,A\n")
    tar_of(tmp_path / "old" / "backup.tar", {"1.jpg": image_bytes(1), "1.txt": b"one"})
    _, _, notes = listed(tmp_path)
    assert notes == ("not read: captions.csv, config.json, old/backup.tar",)


def test_a_tar_among_images_hides_nothing(tmp_path):
    put(tmp_path, "a.jpg")
    write(tmp_path, "a.txt", "A")
    tar_of(tmp_path / "old" / "backup.tar", {"1.jpg": image_bytes(1), "1.txt": b"one"})
    with pytest.raises(LayoutError, match=r"holds images \(a\.jpg .*old/backup\.tar .*move the tars elsewhere"):
        read_layout(tmp_path)
    assert len(read_layout(tmp_path / "old").items) == 1


def test_what_lies_beside_tars_is_told(tmp_path):
    tar_of(tmp_path / "00000.tar", {"1.jpg": image_bytes(1), "1.txt": b"one"})
    for name in ("00000.parquet", "00000_stats.json", "captions.csv"):
        write(tmp_path, name, "image,caption\n")
    assert read_layout(tmp_path).notes == ("not read: captions.csv",)


def test_the_remedy_that_an_import_of_nothing_prints_can_be_followed(tmp_path, capsys):
    put(tmp_path / "in", "a.jpg")
    command = ["data", "import", str(tmp_path / "in"), "--estimator", "none", "--keep-empty"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--caption TEXT" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock"] == []
    assert main([*command, "--caption", "a man"]) == 0
    assert [sample.caption for sample in read_shards(tmp_path / "out")] == ["a man"]
