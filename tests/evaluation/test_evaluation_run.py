"""Evaluations: what is kept of a run, its scores with known answers, and two runs side by side."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from humansd.evaluation.colors import TopColor
from humansd.evaluation.compare import compare_runs, comparison_markdown, seed_differences, verdict
from humansd.evaluation.records import (
    LEFT_OUT,
    PROTOCOL,
    Record,
    Run,
    RunError,
    begin_run,
    image_file,
    read_run,
    write_chunk,
)
from humansd.evaluation.report import write_report
from humansd.evaluation.scores import group_rows, paper_scores, score_run
from humansd.evaluation.sides import best_threshold, sides
from humansd.evaluation.tables import as_markdown, summary_rows
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.pose.people import People

pytestmark = pytest.mark.usefixtures("few_draws")
CANVAS = (64, 64)
SETTINGS = {
    "protocol": PROTOCOL,
    "humansd": "0.2.0",
    "model": {"name": "tiny", "weights": "0"},
    "data": {"name": "shards", "digest": "0", "samples": 12},
    "seed": 0,
    "sampling": {
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "pose_guidance_scale": 1.0,
        "negative_prompt": "",
        "size": [64, 64],
    },
    "estimator": {"name": "centernet", "weights": "1"},
    "features": {"noise": "2"},
    "clip": {"name": "pocket", "weights": "3"},
}
OLDER = {
    **{name: SETTINGS[name] for name in ("model", "data", "seed")},
    "humansd": "0.1.0",
    "sampling": {"steps": 2, "guidance": 5.0, "pose_guidance_scale": 1.0, "negative": ""},
    "estimator": "centernet",
    "features": {"noise": "noise"},
    "clip": "pocket",
}


def people(rng: np.random.Generator, n: int, score: float = 0.8) -> People:
    if not n:
        return People.empty(CANVAS)
    return People.of(rng.uniform(4, 60, (n, 17, 2)), CANVAS, extras=[{"score": score}] * n)


def moved(rng: np.random.Generator, wanted: People, by: float) -> People:
    if not wanted.n:
        return wanted
    extras = [{"score": float(s)} for s in rng.uniform(0.3, 0.9, wanted.n)]
    return People.of(wanted.xy + rng.normal(0, by, wanted.xy.shape), CANVAS, extras=extras)


def records(by: float, counts=(1, 2, 3, 1, 2, 0, 1, 1, 2, 1, 3, 1), seed: int = 0) -> list[Record]:
    rng, noise = np.random.default_rng(0), np.random.default_rng(1)
    made = []
    for i, n in enumerate(counts):
        wanted = people(rng, n)
        scene = "photo" if i % 3 else "cartoon"
        found = moved(noise, wanted, by)
        made.append(Record(f"k{i:02d}", scene, f"photo, {n} people", seed + i, wanted, found, wanted, 20.0 + i, 25.0))
    return made


def features(n: int = 12, shift: float = 0.0) -> dict:
    rng = np.random.default_rng(2)
    return {"generated/noise": rng.normal(shift, 1, (n, 4)), "real/noise": rng.normal(0, 1, (n, 4))}


def write_run(folder, by: float, shift: float = 0.0, settings=SETTINGS, seed: int = 0):
    begin_run(folder, settings)
    made = records(by, seed=seed)
    write_chunk(folder, 0, made[:8], {name: rows[:8] for name, rows in features(shift=shift).items()})
    write_chunk(folder, 1, made[8:], {name: rows[8:] for name, rows in features(shift=shift).items()})
    for record in made:
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(image_file(folder, record.key))
    return folder


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    run = read_run(write_run(tmp_path / "run", 2.0))
    assert [r.to_json() for r in run.records] == [r.to_json() for r in records(2.0)]
    assert np.allclose(run.features["noise"][0], features()["generated/noise"], atol=1e-6)


def test_a_folder_of_other_settings_is_refused_naming_the_setting(tmp_path):
    begin_run(tmp_path, SETTINGS)
    begin_run(tmp_path, SETTINGS)
    with pytest.raises(RunError, match=r"sampling\.num_inference_steps = 2, now 9"):
        begin_run(tmp_path, {**SETTINGS, "sampling": {**SETTINGS["sampling"], "num_inference_steps": 9}})


@pytest.mark.parametrize("damage", ["{", '[{"key": "k"}]', "[3]"])
def test_a_damaged_chunk_is_named_with_the_remedy(tmp_path, damage):
    write_run(tmp_path, 1.0)
    (tmp_path / "chunks" / "00001.json").write_text(damage)
    with pytest.raises(RunError, match=r"00001\.json: damaged .* delete this file"):
        read_run(tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no settings\.json"):
        read_run(tmp_path)
    begin_run(tmp_path, SETTINGS)
    with pytest.raises(RunError, match="no image is done"):
        read_run(tmp_path)


def test_poses_found_as_they_were_wanted_score_as_high_as_can_be(tmp_path):
    results = score_run(read_run(write_run(tmp_path, 0.0)))
    everything = results["groups"]["all"]
    for side in ("generated", "ceiling"):
        scores = everything[side]
        assert (scores["ap"], scores["cap"], scores["pce"]) == (1.0, 1.0, 0.0)
    assert everything["generated"]["clipsim"] == pytest.approx(25.5)
    assert everything["generated"]["people"] == 18
    assert results["intervals"]["ap"] == [1.0, 1.0]
    assert results["chance"]["cap"] < 0.5
    json.dumps(results, allow_nan=False)


def test_scores_of_all_images_are_those_of_the_metrics_and_stand_inside_their_intervals(tmp_path):
    run = read_run(write_run(tmp_path, 2.5))
    results = score_run(run)
    pairs = [(r.wanted, r.found) for r in run.records]
    ap = results["groups"]["all"]["generated"]["ap"]
    assert ap == pytest.approx(keypoint_scores(pairs).ap)
    assert 0.1 < ap < 0.9
    low, high = results["intervals"]["ap"]
    assert low < ap < high


def test_groups_are_numbers_of_people_and_scenes():
    rows = group_rows(records(1.0))
    counts = ["0 people", "1 person", "2 people", "3 people", "1 to 3 people"]
    assert list(rows) == ["all", *counts, "scene cartoon", "scene photo"]
    assert rows["0 people"] == [5]
    assert rows["1 to 3 people"] == [i for i in range(12) if i != 5]
    crowds = group_rows(records(1.0, counts=(4, 1, 8, 9, 12)))
    assert [crowds[name] for name in ("4 to 8 people", "9 people or more")] == [[0, 2], [3, 4]]
    assert "1 to 3 people" not in crowds  # the same as "1 person"
    assert rows["scene cartoon"] == [0, 3, 6, 9]


def test_every_score_of_a_group_stands_beside_its_ceiling(tmp_path):
    made = [replace(one, ceiling=people(np.random.default_rng(3), 1)) for one in records(0.0)]
    results = score_run(Run(tmp_path, SETTINGS, made, {}))
    pair = results["groups"]["2 people"]
    assert (pair["generated"]["pce"], pair["ceiling"]["pce"]) == (0, 1)
    assert "| 0.00 / 1.00 |" in next(line for line in as_markdown(results).splitlines() if "| 2 people |" in line)


def test_people_with_few_joints_are_ignored_where_the_run_says_so(tmp_path):
    made = records(0.0)
    few = [replace(one, found=one.found.select(range(min(1, one.found.n)))) for one in made]
    bare = []
    for one in few:
        seen = one.wanted.visibility.copy()
        seen[1:, 5:] = 0  # all but the first person have a head alone, and nobody finds them
        wanted = People.of(one.wanted.xy, CANVAS, visibility=seen, extras=one.wanted.extras)
        bare.append(replace(one, wanted=wanted, ceiling=one.wanted))
    everyone = score_run(Run(tmp_path, SETTINGS, bare, {}))["groups"]["all"]
    some = score_run(Run(tmp_path, {**SETTINGS, "min_joints": 8}, bare, {}))["groups"]["all"]
    assert everyone["generated"]["people"] == 18
    assert everyone["generated"]["ap"] < 1
    assert some["generated"]["people"] == 11
    assert some["generated"]["ap"] == some["ceiling"]["ap"] == 1  # in the real images they are found, and not false
    assert some["generated"]["pce"] == everyone["generated"]["pce"]


def test_colors_of_tops_are_shares_by_place_beside_their_ceiling(tmp_path):
    tops = (TopColor(1, "red", "red", "red"), TopColor(2, "blue", "red", "blue"))
    made = [replace(one, colors=tops[: one.wanted.n]) for one in records(1.0)]
    begin_run(tmp_path, SETTINGS)
    write_chunk(tmp_path, 0, made, {})
    run = read_run(tmp_path)
    assert [one.colors for one in run.records] == [one.colors for one in made]
    results = score_run(run)
    assert results["colors"] == {
        "all": {"people": 16, "generated": 11 / 16, "ceiling": 1.0},
        "person 1": {"people": 11, "generated": 1.0, "ceiling": 1.0},
        "person 2": {"people": 5, "generated": 0.0, "ceiling": 1.0},
    }
    assert results["intervals"]["color person 2"] == [0, 0]
    low, high = results["intervals"]["color"]
    assert low < 11 / 16 < high
    assert "| colour of tops right, person 2 | 0.0 | 0.0 to 0.0 | 100.0 | 0 % |" in as_markdown(results)
    assert score_run(Run(tmp_path, SETTINGS, records(1.0), {}))["colors"] == {}


def test_without_real_images_what_needs_them_has_no_value_and_says_so(tmp_path):
    made = [replace(one, ceiling=None, ceiling_text_score=float("nan")) for one in records(1.0)]
    begin_run(tmp_path, {**SETTINGS, "count_threshold": 0.35})
    write_chunk(tmp_path, 0, made, {})
    results = score_run(read_run(tmp_path))
    assert results["count_threshold"] == 0.35
    assert set(results["groups"]["all"]["ceiling"].values()) == {None, 0}
    assert results["groups"]["all"]["generated"]["ap"] > 0
    assert results["distances"] == {}
    assert "there are no real images, so ceilings and distances have no value" in results["notes"]
    assert "12 poses without images of shards" in as_markdown(results)


def test_nobody_wanted_single_images_and_no_texts_give_notes_and_no_crash(tmp_path):
    rng = np.random.default_rng(0)
    nobody = People.empty(CANVAS)
    one = Record("a", "mural", "a wall", 0, nobody, people(rng, 1), nobody)
    run = Run(tmp_path, SETTINGS, [one], {"noise": (rng.normal(size=(1, 4)), rng.normal(size=(1, 4)))})
    results = score_run(run)
    assert results["groups"]["all"]["generated"]["ap"] is None
    assert results["groups"]["all"]["generated"]["pce"] in (0.0, 1.0)
    assert results["groups"]["all"]["generated"]["clipsim"] is None
    assert results["distances"]["noise"]["frechet"] is None
    assert any("nobody was wanted" in note for note in results["notes"])
    assert "| AP | - |" in as_markdown(results)
    json.dumps(results, allow_nan=False)


def test_the_threshold_that_counts_best_parts_the_sure_from_the_unsure():
    rng = np.random.default_rng(0)
    wanted = people(rng, 1)
    found = People.of(rng.uniform(4, 60, (3, 17, 2)), CANVAS, extras=[{"score": s} for s in (0.9, 0.4, 0.2)])
    assert 0.4 < best_threshold([(wanted, found)] * 3) <= 0.9


def test_paper_mode_counts_every_detection_and_averages_batches():
    side = sides(records(2.5))[0]
    paper = paper_scores(side)
    assert paper["pce"] == 0
    assert paper["ap"] != pytest.approx(keypoint_scores(side.pairs).ap, abs=1e-6)
    assert paper["cap_shuffled"] > score_cap_shuffled(side)


def score_cap_shuffled(side) -> float:
    from humansd.metrics.similarity_ap import shuffled_scores

    return shuffled_scores(side.pairs).cap


def test_a_distance_is_called_fid_only_where_it_is(tmp_path):
    run = read_run(write_run(tmp_path, 1.0))
    names = [row[0] for row in summary_rows(score_run(run))]
    assert any("Frechet distance, noise" in name for name in names)
    assert not any("FID" in name or "KID" in name for name in names)
    assert "FID" in [row[0] for row in summary_rows(score_run(run, inception=["noise"]))]


def test_the_report_stands_alone_and_shows_every_scene(tmp_path):
    run = read_run(write_run(tmp_path / "run", 2.0))
    real = [(record.key, np.zeros((64, 64, 3), np.uint8)) for record in run.records]
    write_report(run, score_run(run), tmp_path / "report.html", real)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2
    assert page.count("<h3>") == 2
    assert page.count("data:image/jpeg;base64,") % 4 == 0
    assert "best: OKS" in page and "worst: OKS" in page  # noqa: PT018


def test_a_prompt_cannot_break_the_report(tmp_path):
    run = read_run(write_run(tmp_path / "run", 2.0))
    evil = Record.from_json({**run.records[0].to_json(), "prompt": "<script>alert(1)</script>"})
    write_report(
        Run(run.folder, run.settings, [evil, *run.records[1:]], run.features), score_run(run), tmp_path / "r.html", []
    )
    assert "<script" not in (tmp_path / "r.html").read_text()


def test_a_run_does_not_differ_from_itself(tmp_path):
    first, second = write_run(tmp_path / "a", 2.0), write_run(tmp_path / "b", 2.0)
    results = compare_runs([first, second], tmp_path / "out")
    for difference in results["differences"]["b"].values():
        assert difference["difference"] == 0
        assert difference["p"] == 1
    assert "no difference shown" in comparison_markdown(results)
    assert (tmp_path / "out" / "compare.html").exists()
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == results


def test_a_worse_run_is_shown_to_be_worse(tmp_path):
    results = compare_runs([write_run(tmp_path / "good", 0.5), write_run(tmp_path / "bad", 6.0, shift=3.0)])
    ap, frechet = results["differences"]["bad"]["ap"], results["differences"]["bad"]["frechet noise"]
    assert ap["high"] < 0
    assert frechet["low"] > 0
    table = comparison_markdown(results)
    assert table.count("| worse |") >= 2


@pytest.mark.parametrize(
    ("p", "seeds", "said"),
    [
        (0.01, [2.0, 3.0, 1.0], "better"),
        (0.01, [-1.0, 8.0, 1.0], "seeds disagree"),
        (0.2, [2.0], "no difference shown"),
    ],
)
def test_a_difference_that_a_seed_denies_is_not_called_better(p, seeds, said):
    assert verdict("ap", {"difference": float(np.mean(seeds)), "p": p, "seeds": seeds}) == said


def test_runs_are_compared_by_what_was_measured_with_and_not_by_its_name(tmp_path):
    names = {"data": {**SETTINGS["data"], "name": "elsewhere"}, "clip": {"name": "copy", "weights": "3"}}
    first, moved = write_run(tmp_path / "a", 2.0), write_run(tmp_path / "b", 2.0, settings={**SETTINGS, **names})
    compare_runs([first, moved])
    for name, other in (
        ("estimator", {"name": "centernet", "weights": "9"}),
        ("features", {"noise": "9"}),
        ("clip", {"name": "pocket", "weights": "9"}),
        ("data", {**SETTINGS["data"], "digest": "9"}),
    ):
        run = write_run(tmp_path / name, 2.0, settings={**SETTINGS, name: other})
        with pytest.raises(RunError, match=rf"{name} is .*'9'.*; evaluate both with the same {name}"):
            compare_runs([first, run])


def test_runs_of_an_older_version_are_compared_with_each_other_alone(tmp_path):
    new, old, other = (write_run(tmp_path / n, 2.0, settings=s) for n, s in zip("abc", (SETTINGS, OLDER, OLDER)))
    for path in sorted((old / "chunks").glob("*.json")):
        chunk = [{key: value for key, value in one.items() if key != "cut"} for one in json.loads(path.read_text())]
        path.write_text(json.dumps(chunk))
    assert compare_runs([old, other])["differences"]["c"]["ap"]["difference"] == 0
    for folders in ([new, old], [old, new]):
        with pytest.raises(RunError, match=r"b: was made by an older version \(0\.1\.0\), .* than \S*a; evaluate it"):
            compare_runs(folders)
    with pytest.raises(RunError, match=r"b: was made by an older version \(0\.1\.0\), .*; evaluate anew into"):
        begin_run(old, SETTINGS)


def test_runs_of_other_shapes_are_not_compared(tmp_path):
    first, wide = write_run(tmp_path / "a", 2.0), tmp_path / "wide"
    begin_run(wide, SETTINGS)
    longer = [
        replace(one, **{name: getattr(one, name).pad(0, 0, 16, 0) for name in ("wanted", "found", "ceiling")})
        for one in records(2.0)
    ]
    write_chunk(wide, 0, longer, features())
    with pytest.raises(RunError, match=r"wide: its images are 80 x 64 px, those of \S+ 64 x 64, .* with one --size"):
        compare_runs([first, wide])


def test_real_images_of_another_shape_are_counted_and_said(tmp_path):
    made = [replace(one, cut=way) for one, way in zip(records(1.0), ["whole"] * 2 + ["window"] * 7 + ["centre"] * 3)]
    run = Run(tmp_path, SETTINGS, made, {})
    results = score_run(run)
    assert results["cuts"] == {"whole": 2, "window": 7, "centre": 3}
    told = "10 real images have another shape .*: 7 to the largest window that holds everyone; 3, where none does"
    assert re.search(told, as_markdown(results))
    assert "another shape" not in as_markdown(score_run(Run(tmp_path, SETTINGS, records(1.0), {})))


def test_one_seed_differs_as_its_run_does_and_several_on_average(tmp_path):
    good, bad = [write_run(tmp_path / f"good{by}", by) for by in (0.5, 1.0)], write_run(tmp_path / "bad", 6.0)
    alone = [compare_runs([bad, run])["differences"][run.name] for run in good]
    first = seed_differences(good[:1], [bad], ("ap", "frechet"))
    assert set(first) == {"ap", "ap_medium", "frechet noise"} & set(alone[0])
    for name, one in first.items():
        assert one == {**alone[0][name], "seeds": [alone[0][name]["difference"]]}
    both = seed_differences(good, [bad], ("ap",))["ap"]
    assert both["seeds"] == pytest.approx([one["ap"]["difference"] for one in alone])
    assert both["difference"] == pytest.approx(np.mean(both["seeds"]))
    assert seed_differences(good, good, ("ap",))["ap"]["seeds"] == [0, 0]
    with pytest.raises(RunError, match="2 runs and 3 references"):
        seed_differences(good, [bad, *good], ("ap",))
    with pytest.raises(RunError, match="let both evaluations finish"):
        seed_differences([good[0], write_run(tmp_path / "other", 1.0, seed=5)], [bad], ("ap",))


@pytest.mark.parametrize("field", ["estimator", "seed", "clip"])
def test_runs_that_differ_in_more_than_the_model_are_not_compared(tmp_path, field):
    first = write_run(tmp_path / "a", 1.0)
    second = write_run(tmp_path / "b", 1.0, settings={**SETTINGS, field: "other"})
    with pytest.raises(RunError, match=f"{field} is 'other'"):
        compare_runs([first, second])


def test_runs_that_share_no_image_are_not_compared(tmp_path):
    for name, odd in (("a", 0), ("b", 1)):  # another tool drew every second image in one, the others in the other
        write_run(tmp_path / name, 0.0)
        keys = [record.key for record in read_run(tmp_path / name).records]
        left_out = {key: "no file" for number, key in enumerate(keys) if number % 2 == odd}
        (tmp_path / name / LEFT_OUT).write_text(json.dumps(left_out))
    with pytest.raises(RunError, match=r"a: not one of its samples has an image in every run; compare runs that share"):
        compare_runs([tmp_path / "a", tmp_path / "b"])


def test_runs_of_other_seeds_of_images_are_not_compared(tmp_path):
    with pytest.raises(RunError, match="let both evaluations finish"):
        compare_runs([write_run(tmp_path / "a", 1.0), write_run(tmp_path / "b", 1.0, seed=5)])
    with pytest.raises(RunError, match="two runs or more"):
        compare_runs([tmp_path / "a"])


def test_the_benchmark_of_the_metrics_prints_its_table(capsys):
    from humansd.cli import main

    assert main(["benchmark", "metrics", "--images", "6", "--features", "40", "--width", "8"]) == 0
    out = capsys.readouterr().out
    assert "| AP, CAP and PCE together |" in out
    assert "times as long" in out
    assert main(["benchmark", "metrics", "--images", "1"]) == 2


def test_definitions_side_by_side_show_what_the_published_ones_miss(capsys):
    from humansd.cli import main

    assert main(["benchmark", "definitions", "--images", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {tuple(cell.strip() for cell in line.split("|")[1:3]): line.split("|")[3:5] for line in lines[2:]}
    correct, published = (float(cell) for cell in rows["perfect", "CAP"])
    assert correct == 100
    assert published < 90
    assert [float(cell) for cell in rows["and ghosts", "PCE"]] == [0, 0.5]
