"""Runs in processes of their own: killed at any moment, and several at once."""

from __future__ import annotations

import random
import socket
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import forked
import train_line
from humansd.training.checkpoint import checkpoints

STEPS = 120


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "line.safetensors")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = tmp_path_factory.mktemp("unbroken")
    train_line.run(run, STEPS, 0)
    return run


def test_a_run_killed_three_times_ends_bit_for_bit_as_an_unbroken_one(unbroken, tmp_path):
    moment = random.Random(0)
    asked = (tmp_path, STEPS, 0.02)
    for _ in range(3):
        process = forked.start(train_line.run, *asked)
        before = len(checkpoints(tmp_path)) and checkpoints(tmp_path)[-1].name
        deadline = time.monotonic() + 60
        while process.exitcode is None and time.monotonic() < deadline:  # once it has got on since the last kill
            if checkpoints(tmp_path) and checkpoints(tmp_path)[-1].name != before:
                break
            time.sleep(0.02)
        time.sleep(moment.uniform(0, 0.3))
        process.kill()
        process.join()
    last = forked.start(train_line.run, *asked)
    last.join()
    assert last.exitcode == 0
    for folder, name in (("export", "line.safetensors"),):
        assert (tmp_path / folder / name).read_bytes() == (unbroken / folder / name).read_bytes()
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors"):
        one, two = (load_file(checkpoints(run)[-1] / name) for run in (unbroken, tmp_path))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_two_processes_learn_what_one_learns(unbroken, tmp_path):
    codes, said = launch_two(tmp_path / "run")
    if "no end" in codes:  # a port taken meanwhile, a machine that was held up: once is no proof
        warnings.warn(f"two processes did not come to an end: {said}", stacklevel=1)
        codes, said = launch_two(tmp_path / "again")
    assert codes == [0, 0], said
    run = tmp_path / ("again" if (tmp_path / "again").exists() else "run")
    one, two = weights(unbroken), weights(run)
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)


def launch_two(run: Path) -> tuple[list[int | str], str]:
    """As torchrun starts them, without its rendezvous, which asks the network what this machine is called; exit codes,
    or "no end" after five minutes, and what was said, with where it hung."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        place["GLOO_SOCKET_IFNAME"] = "lo"
    run.mkdir()
    files = [run / f"errors-{rank}" for rank in (0, 1)]
    processes = [
        forked.start(
            train_line.run,
            run,
            STEPS,
            0.0,
            errors=file,
            environment=place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, file in enumerate(files)
    ]
    deadline = time.monotonic() + 300
    for process in processes:
        process.join(max(1.0, deadline - time.monotonic()))
    codes = ["no end" if process.exitcode is None else process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes, "\n".join(file.read_text(errors="replace")[-3000:] for file in files)
