"""The moving average of a module's weights, which is what a run keeps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(module: nn.Module, *, decay: float) -> AveragedModel:
    """Begin an exponential moving average at a module's present weights; it is kept in float32.

    The decay warms up: of ``n_averaged`` = n weights, the first among them, the next moves the average by
    1 - min(decay, (1 + n) / (10 + n)), so that it soon leaves the weights that training began with.
    """

    def move(averages: Sequence[Tensor], values: Sequence[Tensor], _: Tensor | int) -> None:
        n = int(average.n_averaged)  # on the CPU: torch hands it over on the weights' device, which would be waited for
        step = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))
        step(averages, [value.float() for value in values], n)  # weights may be bfloat16, averages are not

    average = AveragedModel(module, multi_avg_fn=move, use_buffers=True).eval().requires_grad_(False)
    average.module.float()
    average.n_averaged.fill_(1)  # else the first update would be a copy
    return average
