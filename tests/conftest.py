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
    "test_studio_robust",
    "test_training_memory",
    "test_reproduce_humansd",
    "test_training_recipe",
    "test_pocket_weights",
    "test_methods",
    "test_training_diffusion",
    "test_pocket_table",
    "test_pipeline_diffusers",
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
    """See `fewer_draws`; and the CLIP that ships, which every evaluation measures with, is loaded once. In this process
    alone."""
    from functools import cache

    import fewer_draws
    from humansd.metrics import bootstrap
    from humansd.models import clip_similarity, features

    load_clip = features.load_clip
    once = cache(load_clip)

    def load(place, user):
        return (once if place == features.clip_place("") else load_clip)(place, user)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_draws", fewer_draws.draws)
        for module in (features, clip_similarity):
            patch.setattr(module, "load_clip", load)
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """See `make_tiny_run`; only read."""
    from tiny_run import make_tiny_run

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_run(folder)
    return folder
