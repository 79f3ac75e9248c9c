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


# What takes longest comes first, so that no process is left alone with it at the end.
LONGEST_FIRST = (
    "test_reproduce",
    "test_pocket_weights",
    "test_training_recipe",
    "test_training_memory",
    "test_studio_robust",
    "test_training_diffusion",
    "test_pipeline_diffusers",
    "test_methods",
    "test_evaluate",
    "test_evaluation_shapes",
    "test_studio_page",
    "test_training_presets",
)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


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
    """See `make_tiny_run`; only read."""
    from tiny_run import make_tiny_run

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_run(folder)
    return folder
