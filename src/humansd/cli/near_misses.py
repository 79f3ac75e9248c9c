"""Options that a command does not have are answered with the one that it has: other tools' names, and misspellings."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from humansd.core.names import present_name

# What is meant: our options, of which a command has one or none, and what other tools call it, without dashes.
_MEANT: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("--n", "--count", "--limit"),
        "n count num number num-images n-images num-images-per-prompt images-per-prompt "
        "num-samples n-samples samples n-iter batch-count num-outputs amount limit max-samples",
    ),
    (
        ("--num-inference-steps", "--steps", "--sampling-steps"),
        "num-inference-steps steps num-steps sampling-steps sample-steps ddim-steps inference-steps "
        "denoising-steps iterations",
    ),
    (
        ("--guidance-scale", "--guidance"),
        "cfg cfg-scale scale guidance guidance-scale text-guidance classifier-free-guidance cfgscale",
    ),
    (
        ("--pose-guidance-scale", "--pose-guidance"),
        "pose-scale pose-strength pose-weight controlnet-conditioning-scale conditioning-scale "
        "control-strength control-weight controlnet-scale controlnet-weight",
    ),
    (("--negative-prompt",), "negative neg negative-prompt neg-prompt uncond negative-text uc"),
    (("--scheduler",), "sampler sampler-name sampling-method sampler-index scheduler-name solver"),
    (
        ("--out",),
        "o output outdir out-dir output-dir output-path output-folder output-file save save-dir save-path dest outpath",
    ),
    (
        ("--model", "--base-model"),
        "m ckpt checkpoint model-id model-name model-path pretrained weights repo-id "
        "pretrained-model-name-or-path sd-model base-model base",
    ),
    (
        ("--pose", "--poses"),
        "pose poses control-image controlnet-image condition-image pose-image pose-file poses-file "
        "openpose skeleton skeletons keypoints control",
    ),
    (("--image",), "i init-image init-img input-image img img2img source-image init"),
    (("--strength",), "denoise denoising-strength denoise-strength image-strength noise-strength"),
    (("--mask",), "mask-image inpaint-mask inpaint mask-img"),
    (
        ("--batch-size", "--batch"),
        "b bs batch-size batch batchsize per-device-batch-size train-batch-size",
    ),
    (("--seed",), "s random-seed rng-seed manual-seed noise-seed"),
    (("--dtype",), "precision torch-dtype fp16 bf16 fp32 half float16 mixed-precision no-half"),
    (("--device",), "gpu cuda cpu gpu-id use-cuda use-gpu"),
    (("--lora",), "loras lora-weights lora-path lora-scale adapter"),
    (("--embedding",), "embeddings textual-inversion ti"),
    (("--data",), "dataset data-dir dataset-dir data-path train-data-dir shards dataset-name"),
    (("--estimator",), "detector pose-model pose-estimator pose-detector"),
    (("--workers",), "j jobs num-workers threads processes dataloader-num-workers"),
    (("--jobs",), "j workers num-workers threads processes"),
    (("--size",), "size resolution image-size img-size dimensions width height w h W H side"),
)
_WIDTHS, _HEIGHTS = ("width", "w", "W"), ("height", "H")
_PROMPTS = ("prompt", "text", "p")
_NUMBER = re.compile(r"-\.?\d")
_CHOICE = re.compile(r"argument COMMAND: invalid choice: '([^']*)'")  # argparse's words
_SHORT = re.compile(r"(-[A-Za-z])=?(.*)", re.DOTALL)


def _plain(option: str) -> str:
    """An option's name without dashes, written as ours are."""
    name = option.lstrip("-")
    return name if len(name) == 1 else name.lower().replace("_", "-")


def _nearest(name: str, known: Iterable[str]) -> str:
    """Which of `known` is meant; "" where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.75)), "")


def _settings() -> set[str]:
    """The names of all settings of all trainings."""
    from humansd.training.presets import PRESETS  # late: only a mistake needs them

    return {field.name for one in PRESETS.values() for field in dataclasses.fields(one)}


class Parser(argparse.ArgumentParser):
    """A parser that says which of its options is meant where it does not have one."""

    def error(self, message: str) -> NoReturn:
        """One line for a wrong value; how a command is written where a part of it is missing."""
        if (found := _CHOICE.match(message)) is not None and self._subparsers is not None:
            near = _nearest(found[1], self._commands())
            if near:
                self.exit(2, f"humansd: {found[1]} is no command of `{self.prog}`; did you mean {near}?\n")
        if self._subparsers is not None or message.startswith("the following arguments are required"):
            super().error(message)
        self.exit(2, f"humansd: {message}; `{self.prog} --help` shows what it takes\n")

    def _commands(self) -> list[str]:
        """The commands below this one."""
        assert self._subparsers is not None
        groups = (one.choices for one in self._subparsers._group_actions)
        return [name for choices in groups for name in choices or ()]

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As its base; options of this command that are unknown end the program with one line."""
        if args is not None and self._subparsers is None:
            unknown = self._unknown(list(args))
            if unknown:
                self._refuse(unknown)
        return super().parse_known_args(args, namespace)

    def _unknown(self, args: list[str]) -> list[tuple[str, str]]:
        """Options that this command does not have, each with the value given to it."""
        found = []
        for i, token in enumerate(args):
            if token == "--":
                break
            if not token.startswith("-") or token == "-" or _NUMBER.match(token) or self._is_value(args, i):
                continue
            name, equals, value = token.partition("=")
            if " " in name:  # a prompt
                continue
            if not token.startswith("--") and (short := _SHORT.fullmatch(token)):
                name, value = short.groups()
            if name in self._option_string_actions or self._is_short_for(name):
                continue
            following = args[i + 1] if i + 1 < len(args) else ""
            found.append((name, value if equals or value else "" if following.startswith("-") else following))
        return found

    def _is_value(self, args: list[str], i: int) -> bool:
        """Whether the token is where a known option's value belongs: what is wrong with it argparse says."""
        action = self._option_string_actions.get(args[i - 1]) if i else None
        return action is not None and action.nargs != 0

    def _is_short_for(self, name: str) -> bool:
        """Whether argparse knows what to do with a shortened name, and other tools mean nothing else by it."""
        longer = [option for option in self._option_string_actions if name[:2] == "--" and option.startswith(name)]
        meant = self._meant(name)
        if meant is not None:
            return len(longer) == 1 and self._option_string_actions[meant] is self._option_string_actions[longer[0]]
        return bool(longer) and _plain(name) not in _PROMPTS

    def _meant(self, name: str) -> str | None:
        """The option of this command that other tools give this name."""
        plain = _plain(name)
        for ours, theirs in _MEANT:
            if plain in theirs.split():
                option = next((option for option in ours if option in self._option_string_actions), None)
                if option is not None and (option != "--size" or self._option_string_actions[option].type is not None):
                    return option  # reproduce's --size is the name of a preset
        own = f"--{plain}"
        return own if own in self._option_string_actions else None

    def _refuse(self, unknown: list[tuple[str, str]]) -> NoReturn:
        """Ends the program with what is meant, in one line."""
        told, remedies = [name for name, _ in unknown], []
        sides = {
            side: value for names, side in ((_WIDTHS, 0), (_HEIGHTS, 1)) for n, value in unknown if _plain(n) in names
        }
        for name, value in unknown:
            remedy = self._remedy(name, value, sides)
            if remedy not in remedies:
                remedies.append(remedy)
        options = "is no option" if len(told) == 1 else "are no options"
        self.exit(2, f"humansd: {', '.join(told)} {options} of `{self.prog}`; {'; '.join(remedies)}\n")

    def _remedy(self, name: str, value: str, sides: dict[int, str]) -> str:
        if _plain(name) in _PROMPTS and any(a.dest == "prompts" for a in self._get_positional_actions()):
            return f'write the prompt without an option: {self.prog} "a woman running" ...'
        meant = self._meant(name)
        if meant == "--size" and _plain(name) in (*_WIDTHS, *_HEIGHTS) and self._takes_both_sides():
            width, height = (sides.get(side, "") or sides.get(1 - side, "") for side in (0, 1))
            return f"write {meant} {width}x{height}" if width.isdecimal() and height.isdecimal() else f"use {meant} WxH"
        if meant == "--dtype" and name.strip("-") in ("fp16", "bf16", "fp32"):
            return f"write --dtype {name.strip('-')}"
        if meant == "--device" and name.strip("-") in ("cpu", "cuda"):
            return f"write --device {name.strip('-')}"
        if meant is not None:
            return f"write {meant} {value}" if value and " " not in value else f"use {meant}"
        near = _nearest(name, self._option_string_actions)
        if "--set" in self._option_string_actions and name.startswith("--"):
            settings, key = _settings(), name.strip("-").replace("-", "_")
            if present_name(key) in settings:
                return f"a setting is given as --set {key}={value or 'VALUE'}"
            if not near and (meant_setting := _nearest(key, settings)):
                return f"did you mean --set {meant_setting}={value or 'VALUE'}?"
        help_ = f"`{self.prog} --help` lists them"
        return f"did you mean {near}? {help_}" if near else help_

    def _takes_both_sides(self) -> bool:
        return self._option_string_actions["--size"].metavar == "WxH"
