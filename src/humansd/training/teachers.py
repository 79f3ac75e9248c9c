"""The estimator that a heatmap-guided loss asks: which one a setting names, whether it is here, whether it fits.

Everything here is known before a weight is loaded, and for a dry run before there is one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humansd.models.estimators import SHIPPED
from humansd.models.higherhrnet import CONFIGS, HigherHRNetConfig
from humansd.training.bases import check_base_is_here, check_parts_are_here, check_start, image_px
from humansd.training.tasks.diffusion_networks import check_schedule
from humansd.training.tasks.diffusion_settings import DiffusionSettings, TeacherSettings
from humansd.training.tasks.latent_head_settings import HeadSettings

POCKET = "pocket"  # the estimator that ships, for images of 128 px
# Published networks by name: their sizes are known, their weights do not ship.
PUBLISHED = {"higherhrnet-w32": "w32", "higherhrnet-w48": "w48"}
BEARABLE = 1.5  # HigherHRNet learns from images at 0.75 to 1.5 times their size (its sec. 4.1)
SHRUNK = 2.0  # how many times as large the model's images may be: the pocket estimators see halved ones
REMEDY = (
    "name the folder of a HigherHRNet (train: --set estimator=FOLDER, reproduce: --estimator FOLDER); `humansd convert "
    "higherhrnet FILE --out FOLDER` makes one of a published checkpoint"
)


@dataclass(frozen=True)
class TeacherInfo:
    """name: as the setting says it. config: the sizes of the network. folder: of its weights; None: not here."""

    name: str
    config: HigherHRNetConfig
    folder: Path | None

    def __str__(self) -> str:
        kind = f"HigherHRNet of width {self.config.width}, made for images of {self.config.input_px} px"
        return f"{self.name}: {kind}" + (f"; its weights are not here: {REMEDY}" if self.folder is None else "")


def teacher_of(settings: TeacherSettings) -> TeacherInfo:
    """The estimator that `settings` need; errors as of `find_teacher`."""
    return find_teacher(settings.estimator, settings.teacher_wanted_by())


def find_teacher(estimator: str, who: str = "this loss") -> TeacherInfo:
    """What the setting `estimator` names: "pocket", a published network by name, or the folder of one.

    who: needs it, for the message.

    Raises:
        ValueError: it is empty, or the folder is of another network.
        OSError: a folder that is not there, or holds no network.
    """
    if not estimator:
        shipped = f"{POCKET!r} is the one that ships, for images of {CONFIGS['pocket'].input_px} px"
        raise ValueError(f"{who} needs a teacher, and estimator is empty: {REMEDY} ({shipped})")
    if estimator == POCKET:
        return TeacherInfo(estimator, CONFIGS["pocket"], SHIPPED / "higherhrnet")
    path = Path(estimator) / "config.json"
    if estimator in PUBLISHED and not path.parent.is_dir():
        return TeacherInfo(estimator, CONFIGS[PUBLISHED[estimator]], None)
    if not path.exists():
        raise FileNotFoundError(f"estimator = {estimator!r}: there is no {path}; {REMEDY}")
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        config = HigherHRNetConfig(**{**values, **lists})
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"estimator = {estimator!r}: {path} is of no HigherHRNet ({reason}); {REMEDY}") from error
    return TeacherInfo(estimator, config, path.parent)


def teacher_folder(teacher: TeacherInfo) -> Path:
    """Where its weights are. ValueError where they are not here."""
    if teacher.folder is None:
        raise ValueError(f"estimator = {teacher.name!r}: its weights do not ship; {REMEDY}")
    return teacher.folder


def shown_px(settings: TeacherSettings, teacher: TeacherInfo, image_px: int) -> int:
    """The side of the image that the estimator is shown, where the model makes images of `image_px`."""
    if getattr(settings, "loss", "") == "reference":  # as published: at its own size
        return image_px
    return settings.estimator_px or teacher.config.input_px


def check_fit(teacher: TeacherInfo, image_px: int, shown: int) -> None:
    """Whether an estimator can see people in a model's images of `image_px`, shown to it at `shown` px.

    Raises:
        ValueError: the sizes are further apart than it learnt to bear, or the network cannot take them.
    """
    own = teacher.config.input_px
    wrong = ""
    if not own / BEARABLE <= image_px <= own * SHRUNK:
        wrong = f"the model makes images of {image_px} px"
    elif not own / BEARABLE <= shown <= own * BEARABLE:
        wrong = f"is shown {shown} px"
    if wrong:
        raise ValueError(
            f"estimator = {teacher.name!r}: made for images of {own} px, and {wrong}; it needs to be made for "
            f"{round(image_px / SHRUNK)} to {round(image_px * BEARABLE)} px: {REMEDY}"
        )
    if shown % 32:
        raise ValueError(
            f"estimator = {teacher.name!r}: would be shown images of {shown} px, and the network takes multiples of "
            "32; use --set loss=heatmap --set estimator_px=PIXELS"
        )


def describe_teacher(settings: DiffusionSettings | HeadSettings) -> dict[str, Any]:
    """The teacher that settings of a UNet or a head ask, for a dry run; empty where they ask none.

    Raises:
        ValueError, OSError: none is named, it is not there, or it does not fit the images.
    """
    if not settings.teacher_wanted_by():
        return {}
    teacher, px = teacher_of(settings), image_px(settings)
    shown = shown_px(settings, teacher, px or teacher.config.input_px)
    if px is not None:
        check_fit(teacher, px, shown)
    return {"teacher": str(teacher), "teacher_is_shown_px": shown}


def check_weights(settings: DiffusionSettings | HeadSettings) -> None:
    """Whether base and teacher can be loaded at all and fit, before anything is; errors as of `describe_teacher`."""
    describe_teacher(settings)
    check_base_is_here(settings)
    check_parts_are_here(settings)
    check_schedule(settings.components or settings.base_model, settings.zero_terminal_snr)
    check_start(settings)
    if settings.teacher_wanted_by():
        teacher_folder(teacher_of(settings))
