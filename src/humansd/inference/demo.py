"""The first thing a new user sees: the example poses in several prompts and styles, on one sheet."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from humansd.inference.generate import Generated, Job, draw_jobs
from humansd.inference.pose_files import NamedPose, read_pose_files
from humansd.inference.pretrained import load_pipeline
from humansd.pose.examples import example_poses
from humansd.pose.people import People

IMAGES_PER_POSE = 3
# Each prompt begins with its scene (style), as in the training data; {act} is what the pose file's name says.
ALONE = (
    "photo, a woman in a red dress {act} in a meadow on a sunny day",
    "oil_painting, an oil painting of a man in a blue coat {act} by the sea at sunset",
    "cartoon, a young man wearing a yellow hoodie and black trousers, {act} in a city",
    "photo, a man in a green jacket and grey trousers {act} in the snow",
    "watercolor, a watercolor of a woman in a purple sweater {act} in a forest",
    "comic, a comic panel of a man in an orange t-shirt and blue shorts {act} by a brick wall",
    "photo, a woman wearing a yellow sweater and brown trousers, {act} on a beach",
    "ukiyoe, a woodblock print of a woman in a red robe {act} in the mountains",
    "stained_glass, a stained glass window of a man in a blue robe {act}",
    "photo, a man wearing a white shirt and red trousers, {act} on a stage",
    "sketch, a pencil sketch of a woman in a jacket {act} in a room",
    "sculpture, a statue of a man in a robe {act} in a studio",
)
TOGETHER = (
    "photo, {count} people, a woman in a red dress and a man in a blue jacket, in a city in daylight",
    "oil_painting, an oil painting of {count} people in green coats in a meadow",
    "cartoon, {count} people, a man in a yellow hoodie and a woman in a purple dress, on a beach",
    "photo, {count} people in orange jackets in the mountains at sunset",
    "mural, a mural of {count} people in blue robes",
    "watercolor, a watercolor of {count} people in red sweaters in a forest",
)
COUNT_WORDS = {2: "two", 3: "three"}


def draw_demo(
    out: Path, *, poses: Path | None = None, model: str = "pocket", seed: int = 0, progress: bool = True
) -> Generated:
    """Draws every pose of the folder `poses` (default: the examples) with three prompts of different styles.

    Raises ValueError and FileNotFoundError as `generate_images` does.
    """
    jobs: list[Job] = []
    used = {"alone": 0, "together": 0}
    for pose in read_pose_files(poses or example_poses()):
        count = pose.pose.n if isinstance(pose.pose, People) else 1
        kind = "alone" if count == 1 else "together"
        prompts = [demo_prompt(pose, used[kind] + i) for i in range(IMAGES_PER_POSE)]
        used[kind] += IMAGES_PER_POSE
        row = f"{pose.name}: {', '.join(prompt.partition(',')[0] for prompt in prompts)}"
        jobs += [Job(pose, prompt, seed + len(jobs) + i, row) for i, prompt in enumerate(prompts)]
    pipeline = load_pipeline(model)
    return draw_jobs(pipeline, jobs, out, model=model, progress=progress)


def demo_prompt(pose: NamedPose, number: int) -> str:
    """Prompt `number` (they repeat) for this pose: as many people, doing what its name says."""
    count = pose.pose.n if isinstance(pose.pose, People) else 1
    if count > 1:
        return TOGETHER[number % len(TOGETHER)].format(count=COUNT_WORDS.get(count, "many"))
    act = pose.name if pose.name.endswith("ing") and pose.name.isalpha() else "standing"
    return ALONE[number % len(ALONE)].format(act=act)


def next_command(poses: Path | None = None) -> str:
    """A command worth trying after the demo, as it is typed from the current folder."""
    folder = poses or example_poses()
    if folder.resolve().is_relative_to(Path.cwd()):
        folder = folder.resolve().relative_to(Path.cwd())
    file = next(iter(sorted(folder.glob("balancing.json")) or sorted(folder.glob("*.json"))), folder)
    prompt = "oil_painting, a woman in a yellow dress dancing by a lake at sunset"
    return f'{_program()} generate "{prompt}" --pose {shlex.quote(str(file))} --n 4 --out out'


def _program() -> str:
    """How the `humansd` command is typed here: by its path where its folder is not searched, as without `activate`."""
    if shutil.which("humansd"):
        return "humansd"
    beside = Path(sys.executable).with_name("humansd")
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m humansd.cli"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
