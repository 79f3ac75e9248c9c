"""The ComfyUI node pack, called as ComfyUI calls it: by its mappings, with a graph of its API."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from humansd.inference.words import WordWarning
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.errors import PoseError
from humansd.pose.formats import write_poses
from tiny_pipeline import SIZE, standing, tiny_components

PACK = Path(__file__).parents[1] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def pack():
    """The folder loaded as ComfyUI loads one."""
    spec = importlib.util.spec_from_file_location(
        "comfyui_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["comfyui_pack"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["comfyui_pack"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    HumanSDPipeline(**tiny_components(), num_inference_steps=2).save_pretrained(folder)
    return str(folder)


def run(pack, graph, node):
    """The outputs of a node, those that it needs first."""
    one = graph[node]
    inputs = {
        name: run(pack, graph, value[0])[value[1]] if isinstance(value, list) else value
        for name, value in one["inputs"].items()
    }
    kind = pack.NODE_CLASS_MAPPINGS[one["class_type"]]
    known = {name for group in kind.INPUT_TYPES().values() for name in group}
    assert set(inputs) <= known
    outputs = getattr(kind(), kind.FUNCTION)(**inputs)
    assert len(outputs) == len(kind.RETURN_TYPES)
    return outputs


def pose_text(tmp_path, people):
    write_poses(tmp_path / "pose.json", {"pose": people}, "openpose")
    return (tmp_path / "pose.json").read_text()


def test_nothing_of_comfyui_is_imported(pack):
    assert not [name for name in sys.modules if name.split(".")[0] in ("comfy", "nodes", "folder_paths")]
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)


def test_the_graph_that_comes_with_it_draws_what_the_pipeline_draws(pack, model, tmp_path):
    graph = json.loads((PACK / "workflow.json").read_text())
    graph["1"]["inputs"] |= {"model": model, "device": "cpu", "dtype": "fp32"}
    graph["2"]["inputs"]["text"] = pose_text(tmp_path, standing())
    (images,) = run(pack, graph, "3")
    assert images.shape == (2, SIZE, SIZE, 3)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1
    (people,) = run(pack, graph, "2")
    prompt = graph["3"]["inputs"]["prompt"]
    own = HumanSDPipeline.from_pretrained(model)([prompt] * 2, people, seed=1).images
    assert np.array_equal((images.numpy() * 255).round().astype(np.uint8), np.stack([np.array(one) for one in own]))
    assert not torch.equal(images[0], images[1])
    (drawing,) = run(pack, graph, "4")
    assert drawing.shape == (1, 512, 512, 3)


def test_a_pose_comes_back_from_its_drawing(pack):
    nodes = pack.NODE_CLASS_MAPPINGS
    wished = standing((256, 256))
    (drawing,) = nodes["HumanSDDrawPose"]().draw(wished, 256, 256, "HumanSD")
    (found,) = nodes["HumanSDPoseFromImage"]().detect(drawing)
    gaps = np.linalg.norm(found.xy[0] - wished.xy[0], axis=1)[found.labelled[0]]
    assert np.median(gaps) < 8


def test_what_other_nodes_give_is_read(pack, tmp_path):
    keypoint = [json.loads(pose_text(tmp_path, standing((256, 256))))]
    node = pack.NODE_CLASS_MAPPINGS["HumanSDPoseFromJSON"]()
    (people,) = node.read("", pose_keypoint=keypoint)
    assert people.n == 1
    assert people.canvas == (256, 256)


def test_prompts_are_read_as_the_command_line_reads_them(pack, model, tmp_path):
    pytest.importorskip("compel", reason="compel is not installed")
    few = tmp_path / "few"
    shutil.copytree(model, few)
    (few / "words.json").write_text(json.dumps({"words": ["a", "man", "photo"], "scenes": ["photo"], "styles": []}))
    nodes = pack.NODE_CLASS_MAPPINGS
    (loaded,) = nodes["HumanSDLoadModel"]().load(str(few), "cpu", "fp32")

    def drawn(prompt):
        return nodes["HumanSDSample"]().sample(loaded, prompt)[0]

    plain = drawn("photo, a man")
    with pytest.warns(WordWarning):
        assert torch.equal(drawn("a cyberpunk man"), plain)
    assert torch.equal(drawn("photo, a (man:1.0)"), plain)
    assert not torch.equal(drawn("photo, a (man:1.6)"), plain)
    with pytest.raises(ValueError, match="the prompt has the tag <lora:x:1>"):
        drawn("a man <lora:x:1>")


def test_mistakes_are_told(pack, tmp_path):
    nodes = pack.NODE_CLASS_MAPPINGS
    with pytest.raises(PoseError):
        nodes["HumanSDPoseFromJSON"]().read("{")
    with pytest.raises(ValueError, match="number is 3, and there are 1 poses"):
        nodes["HumanSDPoseFromJSON"]().read(pose_text(tmp_path, standing()), number=3)
    with pytest.raises(ValueError, match="canvas_width and canvas_height belong together"):
        nodes["HumanSDPoseFromJSON"]().read(pose_text(tmp_path, standing()), canvas_width=64)
    with pytest.raises(ValueError, match="number is 2, and there are 1 images"):
        nodes["HumanSDPoseFromImage"]().detect(torch.zeros(1, 8, 8, 3), number=2)
