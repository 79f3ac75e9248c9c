"""Settings of every test: no network, one thread, the same random numbers each time."""

import os

# Before any library reads them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def few_draws():
    """See `fewer_draws`; in this process alone."""
    import fewer_draws
    from humansd.metrics import bootstrap

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_draws", fewer_draws.draws)
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of the whole pocket recipe on four images: real networks of all stages, which know nothing."""
    from humansd.training.run import run_preset

    folder = tmp_path_factory.mktemp("tiny")
    few = {"images": "4", "vae.steps": "1", "clip.steps": "1", "base.steps": "1", "humansd.steps": "1"}
    run_preset("tiny", few, folder)
    return folder
