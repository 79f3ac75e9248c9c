"""How much the images of one prompt and pose differ from seed to seed, beside how much they could.

What could differ is what Atelier is free to draw when caption and key points are given: hair, skin, shoes, the clothes
and colours that the caption does not name, light and background. So its renders with all of that drawn anew are the
measure: 1 is a model that varies as much as they do, 0 one that draws one image whatever the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import ImageArray
from humansd.core.markdown import markdown_table
from humansd.evaluation.tables import interval_text
from humansd.inference.generate import Job, draw_batch
from humansd.inference.pose_files import NamedPose
from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import DEFAULT_SAMPLING, SamplingConfig
from humansd.metrics.bootstrap import Draws, bootstrap_interval
from humansd.models.features import FeatureExtractor, load_extractor
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.synthetic.captions import describe
from humansd.synthetic.composing import Stage, compose
from humansd.synthetic.framing import VIEWS, sample_targets
from humansd.synthetic.plan import PersonPlan, ScenePlan
from humansd.synthetic.sampling import ROBED, sample_framed, sample_person
from humansd.synthetic.stage import Figure, draw_stage, pose_figure
from humansd.synthetic.styles import paint
from humansd.synthetic.views import View, look
from humansd.synthetic.wardrobe import too_close_to_skin

SEED = 990_005  # of Atelier; training uses seed 1
SUPERSAMPLE = 2
LEAST_HEIGHT = 0.4  # of the largest person, share of the frame: looks can be told apart
CLOTHES = ("top", "bottom", "shoes", "hat", "hair_style", "hair_color")  # free where the caption does not change


@dataclass(frozen=True)
class DiversityScores:
    """model, atelier: mean feature distance of two images of one prompt and pose, over the prompts; share: the first in
    the second, 1 is best, with low and high, the ends of its 95 % interval over prompts. shift: the farthest that a key
    point of a render lies from that of the first, as a share of the frame. n_prompts, n_seeds: images drawn."""

    share: float
    low: float
    high: float
    model: float
    atelier: float
    shift: float
    n_prompts: int
    n_seeds: int


@dataclass(frozen=True, eq=False)
class Scene:
    """A planned and placed scene whose caption and key points stay as they are.

    plan: what is there. stage: where it stands. poses: the seed of each person's pose. views: what of each person can
    be seen. people: their key points. words: the seed of the caption. side: px of the image.
    """

    plan: ScenePlan
    stage: Stage
    poses: tuple[int, ...]
    views: tuple[View, ...]
    people: People
    words: int
    side: int

    @property
    def caption(self) -> str:
        """The caption, always the same."""
        return self.told(self.plan)

    def told(self, plan: ScenePlan) -> str:
        """The caption of another plan in the same words."""
        return describe(plan, np.random.default_rng(self.words), "seen", self.views)

    def render(self, rng: np.random.Generator) -> tuple[ImageArray, People]:
        """The image, uint8 (side, side, 3), and key points, with every free choice drawn from `rng`."""
        plan = self.redrawn(rng)
        figures = [
            _placed(pose_figure(person, np.random.default_rng(seed)), there)
            for person, seed, there in zip(plan.people, self.poses, self.stage.figures, strict=True)
        ]
        buffers = draw_stage(figures, self.stage.things, self.stage.camera, self.side, SUPERSAMPLE, rng)
        return paint(plan, buffers, rng, self.side), buffers.people

    def redrawn(self, rng: np.random.Generator) -> ScenePlan:
        """The plan with what its caption leaves open drawn anew: a choice is taken where the same words come of it."""
        plan, caption = self.plan, self.caption
        for i, view in enumerate(self.views):
            fresh = sample_person(rng, plan.scene in ROBED, VIEWS.index(view.framing))
            for name in (*CLOTHES, "skin"):
                person = replace(plan.people[i], **{name: getattr(fresh, name)})
                changed = replace(plan, people=(*plan.people[:i], person, *plan.people[i + 1 :]))
                if _can_be_worn(person) and self.told(changed) == caption:
                    plan = changed
        return plan


def _can_be_worn(person: PersonPlan) -> bool:
    """As `synthetic.sampling` has it: nothing under a dress or robe, and cloth apart from other cloth and from skin."""
    whole = person.top.kind in ("dress", "robe")
    cloth = [one.color for one in (person.top, person.bottom) if one is not None]
    if whole != (person.bottom is None) or len(set(cloth)) < len(cloth):
        return False
    if person.top.kind == "dress" and person.gender == "man":
        return False
    hair = person.hair_style in ("short", "curly", "bald") if person.gender == "man" else person.hair_style != "bald"
    return hair and not any(too_close_to_skin(color, person.skin) for color in cloth)


def _placed(figure: Figure, there: Figure) -> Figure:
    """The figure where the hips of the other are."""
    step = (there.joints[11:13] - figure.joints[11:13]).mean(axis=0)
    return figure.moved(float(step[0]), float(step[2]))


def scenes(side: int, seed: int = SEED) -> Iterator[Scene]:
    """Endless scenes of Atelier, framed as in photographs, somebody near and everyone in view; `side` px."""
    index = 0
    while True:
        rng = np.random.default_rng((seed, index))
        index += 1
        targets = sample_targets(rng)  # the largest person first
        if targets[0].height < LEAST_HEIGHT:
            continue
        plan = sample_framed(rng, targets)
        poses = [int(one) for one in rng.integers(2**31, size=len(plan.people))]
        figures = [
            pose_figure(person, np.random.default_rng(one)) for person, one in zip(plan.people, poses, strict=True)
        ]
        stage = compose(figures, targets, plan.place, side * SUPERSAMPLE, rng)
        plan = replace(plan, people=tuple(plan.people[i] for i in stage.numbers))
        buffers = draw_stage(stage.figures, stage.things, stage.camera, side, SUPERSAMPLE, rng)
        if (buffers.people.visibility == 2).any(axis=1).all():
            views, words = look(plan, buffers, stage.behind), int(rng.integers(2**31))
            order = tuple(poses[i] for i in stage.numbers)
            yield Scene(plan, stage, order, views, buffers.people, words, side)


def mean_distance(features: NDArray[np.floating]) -> float:
    """The mean Euclidean distance of two of n features (n, width)."""
    rows, columns = np.triu_indices(len(features), k=1)
    return float(np.linalg.norm(features[rows].astype(np.float64) - features[columns], axis=1).mean())


def measure_diversity(
    pipeline: HumanSDPipeline,
    extractor: FeatureExtractor,
    *,
    prompts: int = 16,
    seeds: int = 16,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    batch_size: int = 8,
    done: Callable[[int], object] = lambda number: None,
) -> DiversityScores:
    """Scores over `prompts` scenes, `seeds` images of each; `done` is told after each.

    Raises:
        ValueError: fewer than 2 prompts or seeds, or a model whose images are not square.
    """
    for name, value in (("prompts", prompts), ("seeds", seeds)):
        if value < 2:
            raise ValueError(f"{name} is {value}; a distance and its interval need 2 or more")
    sampling = sampling.resolved(pipeline)
    width, height = sampling.size or pipeline.default_size
    if width != height:
        raise ValueError(f"size is {width} x {height} px; Atelier's images are square, give a square --size")
    model, atelier, shift = np.zeros(prompts), np.zeros(prompts), 0.0
    side = min(max(width, 64), 1024)
    for number, scene in zip(range(prompts), scenes(side), strict=False):
        renders = [scene.render(np.random.default_rng((SEED, number, i))) for i in range(seeds)]
        shift = max(shift, *(_shift(scene.people, people) for _, people in renders))
        jobs = [Job(NamedPose("scene", scene.people), scene.caption, i, "") for i in range(seeds)]
        batches = (jobs[i : i + batch_size] for i in range(0, seeds, batch_size))
        drawn = [np.asarray(one) for batch in batches for one in draw_batch(pipeline, batch, sampling)]
        model[number] = mean_distance(extractor.extract(drawn))
        atelier[number] = mean_distance(extractor.extract([image for image, _ in renders]))
        done(number)
    share = bootstrap_interval(_share_of(model, atelier), prompts)
    means = float(model.mean()), float(atelier.mean())
    return DiversityScores(share.value, share.low, share.high, *means, shift, prompts, seeds)


def _share_of(model: NDArray[np.float64], atelier: NDArray[np.float64]) -> Callable[[Draws], float]:
    return lambda draws: float(draws @ model / (draws @ atelier))


def _shift(first: People, other: People) -> float:
    both = first.labelled & other.labelled
    away = np.linalg.norm(first.xy - other.xy, axis=2)[both]
    return float(away.max() / first.canvas[0]) if away.size else 0.0


def benchmark_diversity(
    model: str = "pocket",
    features: Sequence[str] = ("pocket",),
    *,
    prompts: int = 16,
    seeds: int = 16,
    sampling: SamplingConfig = DEFAULT_SAMPLING,
    device: str = "auto",
    dtype: str = "auto",
    done: Callable[[int], object] = lambda number: None,
) -> str:
    """A table of `measure_diversity` for each of the features, NAME or NAME=SOURCE."""
    pipeline = load_pipeline(model, device, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    rows = []
    for name, _, source in (spec.partition("=") for spec in features):
        extractor = load_extractor(name, source, pipeline.device)
        found = asdict(
            measure_diversity(pipeline, extractor, prompts=prompts, seeds=seeds, sampling=sampling, done=done)
        )
        numbers = [f"{found[key]:.3f}" for key in ("model", "atelier")]
        ends = interval_text([found["low"], found["high"]])
        rows.append([extractor.name, f"{found['share']:.2f}", ends, *numbers, f"{100 * found['shift']:.1f} %"])
    head = ["features", "share", "95 % interval", "model's distance", "Atelier's distance", "key points moved at most"]
    about = f"{prompts} prompts, each with its pose, {seeds} seeds of each."
    return f"{markdown_table(head, rows)}\n\n{about}\n"
