import pytest
import torch
from torch import nn

from worldenv.training.loop.average import moving_average


def test_it_warms_up_then_averages_weights_and_buffers() -> None:
    """To the bit it is the plain formula, one tensor after another."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5, affine=False).double())
    del module[1].num_batches_tracked
    average = moving_average(module, decay=0.9)
    expected = {name: value.detach().float().clone() for name, value in module.state_dict().items()}
    assert set(expected) == {"0.weight", "0.bias", "1.running_mean", "1.running_var"}
    for update in range(1, 200):
        for value in module.state_dict().values():
            value.normal_()
        average.update_parameters(module)
        decay = min(0.9, (1 + update) / (10 + update))
        assert (decay == 0.9) == (update >= 80)
        for name, value in module.state_dict().items():
            expected[name].lerp_(value.float(), 1 - decay)
    found = average.module.state_dict()
    assert list(found) == list(expected), "a checkpoint's names"
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_it_begins_at_the_weights_and_takes_no_part_in_training() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = moving_average(module, decay=0.9)
    assert torch.equal(average.module.weight, module.weight)  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in average.parameters())
    assert not average.module.training
    assert module.training
    assert module.weight.requires_grad


def test_it_keeps_float32_under_bfloat16_weights() -> None:
    module = nn.Linear(1, 1, bias=False).bfloat16().requires_grad_(False)
    module.weight.fill_(1.0)
    average = moving_average(module, decay=0.999)
    average.n_averaged.fill_(10**6)
    module.weight.fill_(1.5)
    average.update_parameters(module)
    assert average.module.weight.item() == pytest.approx(1.0005, abs=1e-6)  # type: ignore[operator]
    module.load_state_dict(average.module.state_dict())
    assert module.weight.dtype == torch.bfloat16
