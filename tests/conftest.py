"""Settings of every test: no network, one thread, the same random numbers each time."""

import contextlib
import os

# Before any library reads them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@contextlib.contextmanager
def fewer_draws():
    """Intervals from 100 draws at most, not from 1,000: as right, and less fine. In this process alone."""
    from humansd.metrics import bootstrap

    draws = bootstrap._draws
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_draws", lambda n_pictures, n_draws, seed: draws(n_pictures, min(n_draws, 100), seed))
        yield


@pytest.fixture(scope="module")
def few_draws():
    """See `fewer_draws`, in all of a module."""
    with fewer_draws():
        yield


@pytest.fixture
def few_draws_here():
    """See `fewer_draws`, in one test."""
    with fewer_draws():
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of the whole pocket recipe on four pictures: real networks of all stages, which know nothing."""
    from humansd.training.run import run_preset

    folder = tmp_path_factory.mktemp("tiny")
    few = {"pictures": "4", "vae.steps": "1", "towers.steps": "1", "base.steps": "1", "humansd.steps": "1"}
    run_preset("tiny", few, folder)
    return folder
