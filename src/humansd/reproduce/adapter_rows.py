"""What the patent's figure 3 compares: the adapters, their rivals, and how each is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from humansd.inference.pretrained import load_pipeline
from humansd.inference.sampling import SamplingConfig
from humansd.methods.dual_adapter import weighted
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.reproduce.adapter_table import REFERENCE, RIVAL

CEILING = "true pairs"


@dataclass(frozen=True)
class Figure3Settings:
    """What is drawn and measured.

    base_model: the plain Stable Diffusion that both adapters were trained on; "" leaves its row out. primary: the
    export of the primary adapter. secondary: NAME=FOLDER of secondary adapters. humansd: a HumanSD; "" leaves its rows
    out. test: shards of true pairs. pairs: that are measured, the first of them. prompts, poses: of the figure.
    held_out: the estimator that measures, NAME or NAME=SOURCE; not the one that the loss asked.
    clip: as of `evaluate`. sampling: of all. seed: of the first pair, then one more each. batch_size: pairs at once.
    weights: of the adapters' features, for further rows: the more of an adapter, the higher its AP, so that methods can
    be compared at equal AP. limit: pairs of which the loss is set beside its limit; 0: none. draws: of the intervals.
    """

    primary: str
    secondary: tuple[tuple[str, str], ...]
    test: str
    base_model: str = ""
    humansd: str = "pocket"
    pairs: int = 256
    prompts: int = 3
    poses: int = 4
    held_out: str = "centernet"
    clip: str = ""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(25, 4.0, 1.0, scheduler="ddim"))
    seed: int = 0
    batch_size: int = 4
    weights: tuple[float, ...] = ()
    limit: int = 64
    draws: int = 1000
    estimator: str = ""

    def __post_init__(self) -> None:
        for name in ("pairs", "prompts", "poses", "batch_size", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        names = [name for name, _ in self.secondary]
        if not names or len({*names, *self._own()}) < len(names) + len(self._own()):
            raise ValueError(f"secondary = {names}: name one or more, each once, and none of {', '.join(self._own())}")

    def _own(self) -> list[str]:
        return ["sd", REFERENCE, RIVAL, "humansd", "humansd, shared attention", CEILING]

    def rows(self) -> dict[str, Row]:
        """Every row of the table."""
        rows = {"sd": Row(self.base_model)} if self.base_model else {}
        rows |= {REFERENCE: Row(self.primary), RIVAL: Row(self.primary, shared=True)}
        rows |= {name: Row(folder) for name, folder in self.secondary}
        if self.humansd:
            rows |= {"humansd": Row(self.humansd), "humansd, shared attention": Row(self.humansd, shared=True)}
        for name, folder in ((REFERENCE, self.primary), (RIVAL, self.primary), *self.secondary):
            shared = name == RIVAL
            rows |= {f"{name} x {weight:g}": Row(folder, weight, shared) for weight in self.weights}
        return rows

    def families(self) -> dict[str, list[str]]:
        """Adapter -> its rows, at every weight. HumanSD has no such weight, so it is in none."""
        names = [REFERENCE, RIVAL, *(name for name, _ in self.secondary)]
        return {name: [name, *(f"{name} x {weight:g}" for weight in self.weights)] for name in names}


@dataclass(frozen=True)
class Row:
    """model: folder or name. weight: of its adapter's features. shared: whether self-attention is."""

    model: str
    weight: float = 1.0
    shared: bool = False

    def load(self, device: str) -> HumanSDPipeline:
        """The pipeline that draws the row."""
        pipeline = load_pipeline(self.model, device, plain=True)
        if self.weight != 1:
            network: Any = pipeline.pose_network
            parts = {**pipeline.components, "pose_network": weighted(network, self.weight)}
            own = {name: pipeline.config[name] for name in ("draw_style", "guidance", "num_inference_steps")}
            pipeline = HumanSDPipeline(**parts, method="dual-adapter", **own).to(device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
