"""worldenv: generated worlds as batched Gymnasium environments.

Shape legend, used in every signature of the package:
    B env, T frame, F latent, M memory entry, S token, N head, D width, C channel, H W pixel, h w latent cell.
"""

import importlib
from typing import Any

from .ids import register_all

__version__ = "0.1.0"

_LAZY = {"World": "worldenv.world.world", "envs": "worldenv.envs", "wrappers": "worldenv.envs.wrappers"}

register_all()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'worldenv' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if name in ("envs", "wrappers") else getattr(module, name)
