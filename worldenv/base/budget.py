"""A network that is made to hold what files do: no larger than they are, and nothing is drawn for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

MAKES = frozenset((torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand))
"""What layers make their weights with; the size comes first."""
FILLS = frozenset(
    (
        *(torch.Tensor.uniform_, torch.Tensor.normal_),
        *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_, nn.init.trunc_normal_),
    )
)
"""What layers fill them with at random, for training that begins with them."""
SPARE = 2**20
"""Numbers that are made whatever a file holds, so that the tensors that a small file lacks are named. A thousand layers
of a few thousand numbers each would take seconds to make, and are more."""


class Budget(TorchFunctionMode):
    """Refuse, in this thread, to make tensors of more numbers than ``most`` in all, before the first that is too much;
    draw no weights, which the file's would take the place of.

    A network that has the weights of a file makes as many numbers as that has; so sizes that somebody wrote beside the
    file never take the memory that they ask for.

    Args:
        most: numbers in the file.
        where: what asks for them, for the error.
    """

    def __init__(self, most: int, *, where: str) -> None:
        super().__init__()
        self.most, self.where, self.made = most, where, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what is made, and leave it as it is.

        Raises:
            ValueError: if it is too much.
        """
        named = kwargs or {}
        if func in FILLS:
            return args[0] if args else named["tensor"]
        if func in MAKES:
            size = args if args and isinstance(args[0], int) else args[0] if args else named["size"]
            self.made += math.prod(size)
            if self.made > self.most + SPARE:
                raise ValueError(
                    f"{self.where}: its sizes ask for more than {self.made} weights, and its files have {self.most}; "
                    "one of them was edited, copy it again"
                )
        return func(*args, **named)
