"""RT-DETR and ViTPose in miniature, real classes and random weights, written as `save_pretrained` does."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
)

SIZE = (48, 64)  # width, height of the pose network's input; its heatmaps are 12 x 16
_LAYER = {"layers": 2, "ffn_dim": 16, "attention_heads": 2}


def save_detector(folder: Path, *, labels: tuple[str, ...] = ("cat", "person"), version: int = 1) -> None:
    torch.manual_seed(1)
    config, kind = ((RTDetrConfig, RTDetrForObjectDetection), (RTDetrV2Config, RTDetrV2ForObjectDetection))[version - 1]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic", out_indices=[2, 3, 4]
    )
    small = {f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in _LAYER.items()}
    names = dict(enumerate(labels))
    settings = config(
        backbone_config=backbone,
        encoder_in_channels=[8, 16, 16],
        encoder_hidden_dim=16,
        d_model=16,
        num_queries=10,
        decoder_in_channels=[16] * 3,
        num_denoising=0,
        id2label=names,
        label2id={name: number for number, name in names.items()},
        **small,
    )
    kind(settings).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def save_pose(folder: Path, *, joints: int = 17, experts: int = 1) -> None:
    torch.manual_seed(2)
    backbone = VitPoseBackboneConfig(
        image_size=SIZE[::-1],
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        out_indices=[2],
        num_experts=experts,
        part_features=8,
    )
    settings = VitPoseConfig(backbone_config=backbone, num_labels=joints, initializer_range=0.5)
    VitPoseForPoseEstimation(settings).save_pretrained(folder)
    VitPoseImageProcessor(size={"height": SIZE[1], "width": SIZE[0]}).save_pretrained(folder)
