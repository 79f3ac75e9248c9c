"""The field's words: identifiers that the code once had for things which have a name elsewhere stay away."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src" / "humansd"
READS_FORMER_NAMES = SRC / "core" / "names.py"
FORMER = {  # pattern of an identifier -> the word
    r"[Pp]ictures?|PICTURE": "image",
    r"^pose_guidance$": "pose_guidance_scale",
    r"^Sampling$": "SamplingConfig",
    r"vae_factor": "vae_scale_factor",
    r"^accumulation$|^gradient_clip$|^warmup_steps$|^tracker$": "gradient_accumulation_steps, max_grad_norm, ...",
    r"^averages$|^Averages$": "ema",
    r"[Tt]owers?(_|$)": "clip, text model, vision model",
    r"(^|_)pack$|^Pack$": "image cache",
    r"^variants?$": "cached_augmentations",
    r"[Jj]udge(_|$)|^JUDGE$": "held-out estimator",
    r"^Guide$|^guided_pictures$|^missed_noise$": "LossWeighter, finetune, noise_residual",
    r"^Layout$|^LAYOUTS$": "ModelFamily",
    r"^Loader$|^Guard$|^Clock$|^Learner$": "Prefetcher, DivergenceGuard, Timers",
    r"^preview_minutes$": "log_images_minutes",
    r"[Cc]olour|COLOUR": "color",
    r"[Ll]icence|LICENCE": "license",
    r"^Floats$": "Float32s or Float64s",
    r"^ldm$": "mse",
}
OTHER_MEANINGS = {
    "pack",
    "variant",  # of a model: one branch, four steps (inference.variants)
    "variants",
    "Guard",
    "Loader",
    "tracker",
    "_judge",
}  # struct, requests, models of the studio, accelerate, filters


def identifiers(file: Path) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text()).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def test_no_identifier_has_a_former_name() -> None:
    found = []
    for file in sorted(SRC.rglob("*.py")):
        if file == READS_FORMER_NAMES:
            continue
        for name in identifiers(file) - OTHER_MEANINGS:
            found += [f"{file.name}: {name} -> {word}" for pattern, word in FORMER.items() if re.search(pattern, name)]
    assert found == []
