"""The loop on a tiny real network: exact resume, refusal of other settings, learning-rate shape."""

import dataclasses
import errno
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import checkpoint_memory
import forked
from humansd.training import checkpoint
from humansd.training.checkpoint import Progress, checkpoints, load_checkpoint, save_checkpoint, settle_config
from humansd.training.devices import make_accelerator
from humansd.training.ema import EMA
from humansd.training.files import whole_folder
from humansd.training.loop import learning_rate_factor, train
from humansd.training.optimizer import make_optimizer
from humansd.training.presets import PRESETS, TINY
from humansd.training.randomness import data_row, even_timestep, sample_noise, sample_rng
from humansd.training.settings import LoopSettings, with_overrides
from humansd.training.step import TrainingStep


class LineTask:
    """Fits y = 3x - 1 from samples that depend on nothing but their index."""

    def __init__(self, settings, start="seed 0"):
        self.start = start
        self.settings = settings
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.seen = []

    def fingerprint(self):
        return {"start": self.start}

    def prepare(self, device):
        self.module.to(device)

    def load(self, samples):
        return samples, torch.stack([sample_noise(sample_rng(self.settings.seed, index), (1,)) for index in samples])

    def loss(self, batch):
        samples, x = batch
        self.seen.extend(samples)
        return (self.module(x) - (3 * x - 1)).square().mean(), {}

    def export(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.module.state_dict(), folder / "line.safetensors")

    def log_images(self, folder, step):
        pass


SETTINGS = LoopSettings(steps=40, batch_size=4, learning_rate=0.02, lr_warmup_steps=2, device="cpu", log_every=10)


def exact(settings):
    return dataclasses.replace(settings, mixed_precision="no")


def test_resume_is_bit_identical_to_an_unbroken_run(tmp_path):
    settings = exact(SETTINGS)
    train(LineTask(settings), tmp_path / "whole")
    first = LineTask(dataclasses.replace(settings, steps=17))
    train(first, tmp_path / "broken")
    second = LineTask(settings)
    train(second, tmp_path / "broken")
    assert first.seen + second.seen == list(range(160))
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        one, two = (load_file(checkpoints(tmp_path / run)[-1] / name) for run in ("whole", "broken"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_it_learns_and_logs(tmp_path):
    settings = dataclasses.replace(exact(SETTINGS), steps=300)
    progress = train(LineTask(settings), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]
    assert progress.samples == rows[-1]["samples"] == 1200
    assert (tmp_path / "export" / "line.safetensors").exists()


def test_a_run_that_ends_before_its_turn_to_log_logs_its_last_step(tmp_path):
    """Once, whether it ends at its last step or by its time limit, and a run that goes on keeps what it logged."""
    settings = dataclasses.replace(exact(SETTINGS), steps=1, log_every=50)
    progress = train(LineTask(settings), tmp_path / "few")
    first = json.loads((tmp_path / "few" / "log.jsonl").read_text())
    assert (first["step"], first["loss"]) == (1, pytest.approx(progress.recent[-1], abs=1e-6))
    train(LineTask(dataclasses.replace(settings, steps=4, log_every=2)), tmp_path / "few")
    rows = [json.loads(line) for line in (tmp_path / "few" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4]
    stopped = train(LineTask(dataclasses.replace(settings, steps=40, max_minutes=1e-9)), tmp_path / "stopped")
    row = json.loads((tmp_path / "stopped" / "log.jsonl").read_text())
    assert row["step"] == stopped.step < 40


def test_finished_run_returns_at_once(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    again = LineTask(exact(SETTINGS))
    assert train(again, tmp_path).step == 40
    assert again.seen == []


def test_other_settings_are_refused_and_named(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    other = dataclasses.replace(exact(SETTINGS), learning_rate=0.5)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.02 and is now 0\.5.*another --out"):
        train(LineTask(other), tmp_path)


def test_other_weights_to_start_from_are_another_run(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    with pytest.raises(ValueError, match=r"start was 'seed 0' and is now 'seed 1'"):
        train(LineTask(dataclasses.replace(exact(SETTINGS), steps=50), start="seed 1"), tmp_path)


def test_network_of_another_shape_is_refused(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    task = LineTask(dataclasses.replace(exact(SETTINGS), steps=50))
    task.module = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"another shape.*another --out"):
        train(task, tmp_path)


def test_export_holds_the_average_and_not_the_last_weights(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    checkpoint = checkpoints(tmp_path)[-1]
    ema, last = load_file(checkpoint / "ema.safetensors"), load_file(checkpoint / "model.safetensors")
    shipped = load_file(tmp_path / "export" / "line.safetensors")
    assert all(torch.equal(shipped[name], ema[name]) for name in shipped)
    assert not all(torch.equal(shipped[name], last[name]) for name in shipped)


def test_time_limit_stops_cleanly_and_the_same_call_goes_on(tmp_path):
    limited = dataclasses.replace(exact(SETTINGS), max_minutes=1e-9)
    assert train(LineTask(limited), tmp_path).step == 1
    assert train(LineTask(exact(SETTINGS)), tmp_path).step == 40


def test_infinite_gradient_stops_before_it_spoils_the_weights(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    task = LineTask(dataclasses.replace(exact(SETTINGS), steps=50))
    task.loss = lambda samples: ((task.module[0].weight * 0).sum().sqrt(), {})
    with pytest.raises(FloatingPointError, match="gradient"):
        train(task, tmp_path)
    assert all(torch.isfinite(parameter).all() for parameter in task.module.parameters())


def test_a_bad_batch_is_passed_over_from_the_last_checkpoint_on(tmp_path, caplog):
    """The run ends as if that batch had never been there."""
    settings = exact(SETTINGS)

    class Spoilt(LineTask):
        def loss(self, batch):
            loss, numbers = super().loss(batch)
            return loss * (float("nan") if 40 in batch[0] else 1), numbers

    progress = train(Spoilt(settings), tmp_path / "spoilt")
    assert (progress.step, progress.samples, progress.skipped) == (40, 164, [40])
    assert "past that batch" in caplog.text
    rows = [json.loads(line) for line in (tmp_path / "spoilt" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})


def test_an_exploding_loss_is_a_bad_batch_too(tmp_path):
    class Exploding(LineTask):
        def loss(self, batch):
            loss, numbers = super().loss(batch)
            return loss * (1e6 if 156 in batch[0] else 1), numbers

    assert train(Exploding(exact(SETTINGS)), tmp_path).skipped == [156]


def test_a_validator_keeps_the_best_and_ends_a_run_that_gets_no_better(tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    settings = dataclasses.replace(exact(SETTINGS), validate_steps=5, patience=2)
    progress = train(LineTask(settings), tmp_path, lambda folder, step: {"ap": next(scores)})
    assert (progress.step, progress.best, progress.stopped) == (20, 0.3, True)
    assert json.loads((tmp_path / "best" / "scores.json").read_text()) == {"step": 10, "ap": 0.3}
    assert (tmp_path / "best" / "line.safetensors").exists()
    assert train(LineTask(settings), tmp_path).step == 20  # it is finished


def test_parts_of_a_batch_give_the_gradients_of_the_whole(tmp_path):
    for name, parts in (("whole", 1), ("parts", 4)):
        train(
            LineTask(dataclasses.replace(exact(SETTINGS), gradient_accumulation_steps=parts)),
            tmp_path / name,
        )
    one, two = (load_file(tmp_path / name / "export" / "line.safetensors") for name in ("whole", "parts"))
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)


def test_processes_that_load_change_nothing_of_a_run(tmp_path):
    """Also behind a batch that is passed over, in parts, and where OpenCV has had threads before."""
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)

    class Trouble(LineTask):
        def loss(self, batch):
            loss, numbers = super().loss(batch)
            return (loss * float("nan") if 16 in batch[0] else loss), numbers

    for name, loaders in (("thread", 0), ("processes", 2)):
        train(
            Trouble(dataclasses.replace(exact(SETTINGS), gradient_accumulation_steps=2, loaders=loaders)),
            tmp_path / name,
        )
    weights = [(tmp_path / name / "export/line.safetensors").read_bytes() for name in ("thread", "processes")]
    assert weights[0] == weights[1]
    progress = json.loads((tmp_path / "processes/export/progress.json").read_text())
    assert progress["skipped"] == [16]


def test_the_error_of_a_process_that_loads_arrives(tmp_path):
    class Broken(LineTask):
        def load(self, samples):
            if samples.start >= 8:
                raise ValueError("image 8 is gone")
            return super().load(samples)

    with pytest.raises(ValueError, match="image 8 is gone"):
        train(Broken(dataclasses.replace(exact(SETTINGS), loaders=2)), tmp_path)


def test_a_number_that_only_some_parts_have_is_logged_as_their_mean(tmp_path):
    class Counting(LineTask):
        def loss(self, batch):
            first = batch[0].start
            return super().loss(batch)[0], {"all": float(first), **({"some": 5.0} if first % 2 else {})}

    train(Counting(dataclasses.replace(exact(SETTINGS), gradient_accumulation_steps=4, steps=1, log_every=1)), tmp_path)
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert (row["all"], row["some"]) == (1.5, 5.0)


def test_without_averages_the_trained_weights_are_exported(tmp_path):
    train(LineTask(dataclasses.replace(exact(SETTINGS), ema_decay=0.0)), tmp_path)
    last = load_file(checkpoints(tmp_path)[-1] / "model.safetensors")
    shipped = load_file(tmp_path / "export" / "line.safetensors")
    assert all(torch.equal(shipped[name], last[name]) for name in shipped)


class Disk:
    """A real file system of a few hundred kB."""

    def __init__(self, place):
        self.place, self.filler = place, place / "filler"

    def fill(self, spare):
        """All but `spare` bytes."""
        self.filler.write_bytes(bytes(shutil.disk_usage(self.place).free - spare))

    def empty(self):
        self.filler.unlink()


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip() if mounted else 'no mount here'}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # weights of it may still be mapped


QUIET = dataclasses.replace(exact(SETTINGS), report_to="none")


def test_a_full_disk_in_the_middle_of_a_checkpoint_is_named_and_the_one_before_it_stays(disk):
    run = disk.place / "run"
    train(LineTask(QUIET), run)
    shipped = (run / "export" / "line.safetensors").read_bytes()
    disk.fill(9000)  # room for two of a checkpoint's four files
    longer = dataclasses.replace(QUIET, steps=50)
    with pytest.raises(
        OSError,
        match=r"run/checkpoints/step-00000050: the disk is full; make room \(0\.\d kB needed, .* kB free\), then the "
        "same command goes on from step-00000040",
    ) as caught:
        train(LineTask(longer), run)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000000", "step-00000040"]
    assert (run / "export" / "line.safetensors").read_bytes() == shipped
    disk.empty()
    assert train(LineTask(longer), run).step == 50
    unbroken = train(LineTask(longer), disk.place / "unbroken")
    one, two = (load_file(checkpoints(disk.place / name)[-1] / "model.safetensors") for name in ("run", "unbroken"))
    assert unbroken.step == 50
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_full_disk_leaves_the_record_of_a_run(disk):
    run = disk.place / "run"
    train(LineTask(QUIET), run)
    before = {name: (run / name).read_bytes() for name in ("config.json", "log.jsonl")}
    disk.fill(0)
    with pytest.raises(OSError, match=r"config\.json: the disk is full"):
        train(LineTask(dataclasses.replace(QUIET, steps=50)), run)
    assert {name: (run / name).read_bytes() for name in before} == before
    assert sorted(path.name for path in run.iterdir()) == [".lock", "checkpoints", "config.json", "export", "log.jsonl"]


class Heavy(LineTask):
    """Its export takes 100 kB."""

    def export(self, folder):
        super().export(folder)
        save_file({"ballast": torch.full((25_000,), float(self.settings.steps))}, folder / "ballast.safetensors")


@pytest.mark.parametrize("name", ["export", "best"])
def test_a_full_disk_leaves_the_export_that_was_there(disk, name):
    def trained(steps):
        settings = dataclasses.replace(QUIET, steps=steps, validate_steps=steps if name == "best" else 0)
        return train(Heavy(settings), disk.place / "run", lambda folder, step: {"ap": step / 100})

    folder = disk.place / "run" / name
    trained(40)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    disk.fill(60_000)
    with pytest.raises(OSError, match=f"run/{name}: the disk is full; make room .*, then give the same command again"):
        trained(50)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.glob(".*")] == [".lock"]
    disk.empty()
    trained(50)
    assert load_file(folder / "ballast.safetensors")["ballast"][0] == 50


def test_a_folder_is_found_again_after_a_kill_between_its_two_renames(tmp_path):
    folder = tmp_path / "export"
    with whole_folder(folder) as part:
        (part / "a").write_text("old")
    folder.rename(tmp_path / ".export.old")

    def stopped():
        with whole_folder(folder) as part:
            (part / "a").write_text("new")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert (folder / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_gradients_are_clipped_to_a_norm_or_not_at_all():
    def clipped(limit):
        settings = dataclasses.replace(QUIET, max_grad_norm=limit)
        module = torch.nn.Linear(2, 1, bias=False)
        step = TrainingStep(module, lambda x: (module(x).sum(), {}), settings, make_accelerator(settings, Path(".")))
        step.gradients([torch.tensor([[3.0, 4.0]])])
        norm = step.clip()
        return norm.item(), module.weight.grad[0].tolist()

    assert clipped(0.0) == (5.0, [3.0, 4.0])
    assert clipped(10.0) == (5.0, [3.0, 4.0])
    norm, gradient = clipped(2.5)
    assert norm == 5.0
    assert gradient == pytest.approx([1.5, 2.0], rel=1e-5)


def test_the_optimiser_has_the_betas_of_the_settings_and_no_warm_up_is_none():
    optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(2))], dataclasses.replace(SETTINGS, beta2=0.999))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert LoopSettings().beta2 == 0.99
    settings = LoopSettings(steps=10, lr_warmup_steps=0)
    assert [learning_rate_factor(settings, step) for step in range(10)] == [1.0] * 10


BEFORE = {"data": "val6", "data_digest": "abc", "steps": 1}


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        (BEFORE, {**BEFORE, "data": "/elsewhere/val6/"}, ""),
        (BEFORE, {**BEFORE, "data_digest": "xyz"}, "data_digest was 'abc' and is now 'xyz'"),
        (BEFORE, {**BEFORE, "data": "other", "data_digest": "xyz"}, "data was .*; data_digest was"),
        ({"data": "val6"}, {"data": "val6/"}, ""),
        ({"data": "val6"}, {"data": "./val6"}, ""),
        (
            {"data": "val6"},
            BEFORE | {"data": "val7"},
            r"data was 'val6' and is now 'val7'; data_digest was None .*; steps was",
        ),
        ({"base_model": "a/b"}, {"base_model": "a/c"}, "base_model was 'a/b' and is now 'a/c'"),
        ({"base_model": ""}, {"base_model": "."}, "base_model was '' and is now '.'"),
        ({"estimator": "", "guide_weights": "1"}, {"estimator": "pocket", "guide_weights": "1"}, ""),
        ({"estimator": "a", "estimator_weights": "1"}, {"estimator": "b", "estimator_weights": "1"}, ""),
    ],
)
def test_a_run_is_told_by_what_is_in_its_folders_and_not_by_their_names(tmp_path, before, now, refused):
    settle_config(tmp_path, before, frozenset())
    if refused:
        with pytest.raises(ValueError, match=refused):
            settle_config(tmp_path, now, frozenset())
    else:
        settle_config(tmp_path, now, frozenset())
        assert json.loads((tmp_path / "config.json").read_text()) == now


class Saved:
    """A small convolution in channels_last with all that a checkpoint holds."""

    def __init__(self):
        torch.manual_seed(4)
        self.module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
        self.module.to(memory_format=torch.channels_last)
        parameters = list(self.module.parameters())
        self.ema = EMA(parameters, 0.9)
        self.optimizer = make_optimizer(parameters, SETTINGS)

    def step(self, seed):
        torch.manual_seed(seed)
        x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        self.module(x).exp().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(seed)

    def state(self):
        return self.module, self.ema, self.optimizer

    def tensors(self):
        slots = (self.optimizer.state[parameter] for parameter in self.module.parameters())
        moments = [one[name] for one in slots for name in sorted(one)]
        return [*self.module.state_dict().values(), *self.ema.tensors, *moments]


def after_a_step():
    made = Saved()
    made.step(1)
    return made


@pytest.mark.parametrize("limit", [1, 300, 1_000_000])
def test_a_step_after_loading_is_that_of_the_unbroken_run_in_channels_last(tmp_path, monkeypatch, limit):
    """Moments of another memory layout than their parameter are scrambled by fused AdamW."""
    monkeypatch.setattr(checkpoint, "PART_BYTES", limit)
    unbroken, fresh = after_a_step(), Saved()
    save_checkpoint(tmp_path, Progress(step=1), *unbroken.state())
    assert load_checkpoint(tmp_path, *fresh.state()).step == 1
    for made in (unbroken, fresh):
        made.step(2)
    for one, two in zip(unbroken.tensors(), fresh.tensors(), strict=True):
        assert torch.equal(one, two)
        assert one.stride() == two.stride()


def test_a_large_checkpoint_is_cut_into_parts_each_with_its_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PART_BYTES", 560)  # the convolution's weight takes 540 bytes
    made = after_a_step()
    folder = save_checkpoint(tmp_path, Progress(step=1), *made.state())
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert names == [
        *("ema-00001.safetensors", "ema-00002.safetensors", "model-00001.safetensors", "model-00002.safetensors"),
        *("optimizer-00001.safetensors", "optimizer-00002.safetensors", "optimizer-00003.safetensors"),
    ]
    assert sorted(json.loads((folder / "state.json").read_text())["sha256"]) == names
    parts = [load_file(folder / name) for name in names]
    assert all(sum(tensor.nbytes for tensor in part.values()) <= 560 for part in parts)
    assert torch.equal(parts[2]["0.weight"], made.module[0].weight)
    part = folder / "optimizer-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-4] + b"1234")
    with pytest.raises(ValueError, match=r"optimizer-00002\.safetensors is damaged; delete"):
        load_checkpoint(tmp_path, *Saved().state())


def test_a_missing_part_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PART_BYTES", 300)
    folder = save_checkpoint(tmp_path, Progress(step=1), *after_a_step().state())
    (folder / "ema-00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"ema-00001\.safetensors is missing; delete"):
        load_checkpoint(tmp_path, *Saved().state())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(5)), r"0\.weight was saved as \(5, 3, 3"),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.PReLU()), "was not saved"),
        (torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3)), r"1\.running_mean|1\.weight|1\.bias|1\.num"),
    ],
)
def test_what_does_not_fit_a_checkpoint_is_named(tmp_path, module, reason):
    save_checkpoint(tmp_path, Progress(step=1), *after_a_step().state())
    parameters = list(module.parameters())
    with pytest.raises(ValueError, match=rf"another shape \(.*({reason}).*another --out"):
        load_checkpoint(tmp_path, module, EMA(parameters, 0.9), make_optimizer(parameters, SETTINGS))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of a process as Linux tells it")
def test_saving_and_loading_take_the_memory_of_a_part(tmp_path):
    """96 MB of weights, twice as much of moments, in parts of 8 MB; each in a process of its own."""
    for what in ("save", "load"):
        assert forked.result(checkpoint_memory.rise, what, tmp_path) < 40, what


def test_a_setting_that_an_older_run_did_not_know_does_not_stop_it(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["lr_scheduler"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    longer = dataclasses.replace(exact(SETTINGS), steps=45)
    assert train(LineTask(longer), tmp_path).step == 45
    with pytest.raises(ValueError, match="lr_scheduler was 'constant' and is now 'cosine'"):
        train(LineTask(dataclasses.replace(longer, lr_scheduler="cosine")), tmp_path)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(
        ValueError,
        match="shared by 3 processes in gradient_accumulation_steps = 2 parts; use a multiple of 6",
    ):
        dataclasses.replace(SETTINGS, gradient_accumulation_steps=2).share(3)
    assert dataclasses.replace(SETTINGS, gradient_accumulation_steps=2).share(2) == 1


def test_a_cosine_ends_at_nothing():
    settings = LoopSettings(steps=110, lr_warmup_steps=10, lr_scheduler="cosine")
    factors = [learning_rate_factor(settings, step) for step in range(110)]
    assert factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps = 0: must be 1 or more"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"device": "banana"}, "auto or cpu or cuda"),
        ({"mixed_precision": "fp8"}, "auto or no or bf16 or fp16"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        LoopSettings(**setting)


def test_damaged_checkpoint_is_named(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    broken = checkpoints(tmp_path)[-1] / "ema.safetensors"
    broken.write_bytes(broken.read_bytes()[:-8] + b"12345678")
    with pytest.raises(ValueError, match=r"ema\.safetensors is damaged; delete"):
        train(LineTask(dataclasses.replace(exact(SETTINGS), steps=50)), tmp_path)


def test_nan_stops_with_the_checkpoint_kept(tmp_path):
    train(LineTask(exact(SETTINGS)), tmp_path)
    task = LineTask(dataclasses.replace(exact(SETTINGS), steps=50))
    task.loss = lambda samples: (task.module[0].weight.sum() * float("nan"), {})
    with pytest.raises(FloatingPointError, match="step 40"):
        train(task, tmp_path)
    assert checkpoints(tmp_path)[-1].name == "step-00000040"


def test_learning_rate_warms_up_stays_and_cools_down():
    settings = LoopSettings(steps=100, lr_warmup_steps=10, cooldown_steps=20)
    factors = [learning_rate_factor(settings, step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:80] == [1.0] * 71
    assert factors[90] == pytest.approx(0.5)
    assert factors == sorted(factors[:10]) + factors[10:80] + sorted(factors[80:], reverse=True)


def test_overrides_reach_into_stages_and_keep_types():
    recipe = with_overrides(TINY, {"images": "9", "humansd.learning_rate": "0.001", "humansd.steps": "3"})
    assert (recipe.images, recipe.humansd.learning_rate, recipe.humansd.steps) == (9, 0.001, 3)
    assert recipe.base == TINY.base


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"image": "9"}, "no such setting"),
        ({"humansd": "9"}, r"humansd\.steps"),
        ({"images": "many"}, "type int"),
        ({"humansd.step": "1"}, r"--set humansd\.step: no such setting"),
        ({"images.foo": "1"}, "has no settings of its own"),
    ],
)
def test_bad_overrides_are_named(override, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(TINY, override)


def test_every_preset_names_known_choices():
    assert {"pocket", "humansd-sd15", "tiny"} <= PRESETS.keys()


def test_each_epoch_uses_every_row_once_in_another_order():
    first, second = ([data_row(5, e * 50 + i, 50) for i in range(50)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_timesteps_are_even_over_any_run_of_samples():
    drawn = [even_timestep(3, index, 1000) for index in range(1234, 1234 + 200)]
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1000))
    assert 18 <= counts.min() <= counts.max() <= 22


class DrawnLine(LineTask):
    """Draws a sheet of one colour."""

    def log_images(self, folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (200, 10, 90)).save(folder / f"step-{step:08d}.png")


def test_tensorboard_shows_curves_and_sheets(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = exact(dataclasses.replace(SETTINGS, log_images_minutes=1e-6))
    train(DrawnLine(settings), tmp_path / "run", lambda folder, step: {"ap": 0.5})
    events = event_accumulator.EventAccumulator(str(tmp_path / "run"), {"images": 0})
    events.Reload()
    assert [one.step for one in events.Scalars("loss")] == [10, 20, 30, 40]
    shown = events.Images("previews")
    assert shown
    image = np.asarray(Image.open(io.BytesIO(shown[-1].encoded_image_string)))
    assert image.shape == (4, 6, 3)
    assert (image == (200, 10, 90)).all()


@pytest.mark.parametrize(("tracker", "what"), [("abacus", "known are auto, none, aim"), ("aim", "pip install aim")])
def test_a_tracker_that_is_not_there_is_refused(tracker, what, tmp_path):
    with pytest.raises(ValueError, match=what):
        train(LineTask(dataclasses.replace(SETTINGS, report_to=tracker)), tmp_path)


def test_a_run_of_an_earlier_version_goes_on_under_the_names_of_now(tmp_path):
    settings = dataclasses.replace(exact(SETTINGS), steps=4)
    train(LineTask(settings), tmp_path)
    path = tmp_path / "config.json"
    now = json.loads(path.read_text())
    former = {"gradient_accumulation_steps": "accumulation", "max_grad_norm": "gradient_clip", "report_to": "tracker"}
    former |= {"lr_warmup_steps": "warmup_steps", "lr_scheduler": "schedule"}
    path.write_text(json.dumps({former.get(key, key): value for key, value in now.items()}))
    assert train(LineTask(dataclasses.replace(settings, steps=6)), tmp_path).step == 6
    assert json.loads(path.read_text()) == now | {"steps": 6}
    with pytest.raises(ValueError, match=r"max_grad_norm was 1\.0 and is now 0\.5"):
        train(LineTask(dataclasses.replace(settings, max_grad_norm=0.5)), tmp_path)


def test_former_names_of_settings_are_understood():
    changed = with_overrides(TINY, {"humansd.warmup_steps": "7", "vae.accumulation": "2"})
    assert changed.humansd.lr_warmup_steps == 7
    assert changed.vae.gradient_accumulation_steps == 2
