"""Networks are told apart by what they hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from humansd.models.digests import networks_digest


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_equal_networks_have_one_digest_and_a_compiled_one_keeps_it():
    made = network()
    made.compile()
    assert networks_digest([network()]) == networks_digest([made])
    assert len(networks_digest([])) == 16


@pytest.mark.parametrize("changed", ["0.weight", "0.bias", "1.running_var", "1.num_batches_tracked"])
def test_every_number_counts(changed):
    other = network()
    with torch.no_grad():
        other.state_dict()[changed].view(-1)[-1] += 1
    assert networks_digest([other]) != networks_digest([network()])


def test_type_shape_and_order_count():
    first, second = network(), network(1)
    told = {
        networks_digest(one)
        for one in ([first, second], [second, first], [first], [network().half()], [nn.Linear(3, 4)], [nn.Linear(4, 3)])
    }
    assert len(told) == 6
