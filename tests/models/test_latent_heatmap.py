"""The latent heatmap head: it learns what a teacher sees, and keeps it in a folder."""

from __future__ import annotations

import torch

from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead


def test_an_untrained_head_sees_nobody_so_the_loss_is_plain():
    assert not LatentHeatmapHead()(torch.randn(2, 8, 16, 16)).any()


def test_it_learns_where_a_pattern_is_whatever_its_strength():
    torch.manual_seed(0)
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=2, width=16, dilations=(1, 2), joints=1))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)

    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        heat = torch.zeros(n, 1, 12, 12)
        rows, columns = torch.randint(12, (2, n))
        heat[torch.arange(n), 0, rows, columns] = 1
        noise = 0.1 * torch.randn(n, 2, 12, 12)
        noise[:, 1:] += heat
        return noise * (10 ** torch.empty(n, 1, 1, 1).uniform_(-2, 1)), heat

    for _ in range(150):
        difference, heat = batch(16)
        loss = ((head(difference) - heat).square() * (1 + 10 * heat)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    difference, heat = batch(64)
    assert (head(difference).flatten(1).argmax(1) == heat.flatten(1).argmax(1)).float().mean() > 0.9


def test_a_folder_gives_the_same_head_back(tmp_path):
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=4, width=16, dilations=(1,), joints=3))
    torch.nn.init.normal_(head.out.weight)
    head.save_pretrained(tmp_path)
    again = LatentHeatmapHead.from_pretrained(tmp_path)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(head(x), again(x))
    assert again.config == head.config
