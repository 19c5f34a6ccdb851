"""A released model shared among processes is the model of one process, and each of them holds its share."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests.conftest import TINY_RELEASE, write_release
from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.bodies.camera import press
from worldenv.engine.engine import Engine
from worldenv.memory.config import with_policy
from worldenv.models.causal_conv import VAECache
from worldenv.models.kv_cache import KVCache
from worldenv.models.ranks import Ranks
from worldenv.models.types import DiTConfig
from worldenv.world.world import World

POLICIES = ("worldplay", "worldscape")
FOUR_HEADS = TINY_RELEASE | {
    "transformer": {**TINY_RELEASE["transformer"], "num_attention_heads": 4},  # type: ignore[dict-item]
    "height": 96,  # six rows and six tokens, which four processes share as 2, 2, 1, 1 and 2, 2, 2, 0
}


@torch.no_grad()
def walk(folder: Path, policy: str, ranks: Ranks | None = None) -> tuple[dict[str, Tensor], int]:
    """Take a few turns, until what is remembered is retrieved; return what came of it, and bytes that are held."""
    world = World.from_worldplay(folder, ranks=ranks)
    engine = Engine(world, 1, memory=with_policy(world.config.memory, policy), decode=False)
    engine.set_prompt(world.require_prompts()(str(folder / "text.safetensors")))
    picture = torch.randint(0, 256, (1, 1, 96, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    engine.resume(picture, {}, seeds=[3])
    chosen = []
    for keys in ([1, 1], [0, 3], [1, 4], [2, 3], [1, 1]):
        engine.step(press(torch.tensor([[keys] * 4]), engine.c2w, engine.spec.steps))
        assert engine.history.selection is not None
        chosen.append(engine.history.selection.index)
    cache, kept = engine.history._cache, engine.history.recorded
    assert isinstance(cache, KVCache)
    latents, past = engine.history.bank.latents[:, : 4 * len(chosen)].float(), VAECache()
    pixels = torch.cat([world.vae.decode(latent, past) for latent in latents[:, :3].split(1, 1)], 1)
    held = cache.buffer.nbytes + (kept.pool.num_used * kept.pool.page_bytes if kept else 0)
    return {"pixels": pixels, "latents": latents, "selection": torch.stack(chosen)}, held


def check(folder: Path, ranks: Ranks) -> None:
    """Compare with what one process made."""
    wanted, header = load_tensors(folder / "wanted.safetensors")
    for policy in POLICIES:
        found, held = walk(folder, policy, ranks)
        assert torch.equal(found["selection"], wanted[f"{policy}.selection"])
        for name in ("latents", "pixels"):
            whole = wanted[f"{policy}.{name}"]
            assert float((found[name] - whole).abs().max() / whole.abs().max()) < 1e-4, name
        assert held * ranks.count == header[policy]
    assert ranks.sent > 0


def join_and_check(index: int, port: int, folder: Path) -> None:
    """Be one of four processes that a launcher has started, and one of two."""
    told = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 4, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", **{name: str(value) for name, value in told.items()}}
    torch.set_num_threads(1)
    four = Ranks.launched("cpu")
    assert four is not None
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    for ranks in (four, Ranks(pairs[index // 2])):
        check(folder, ranks)


def test_processes_make_together_what_one_makes_and_hold_their_share(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    write_release(tmp_path, FOUR_HEADS)
    alone = {policy: walk(tmp_path, policy) for policy in POLICIES}
    tensors = {f"{policy}.{name}": part for policy, (made, _) in alone.items() for name, part in made.items()}
    save_tensors(tmp_path / "wanted.safetensors", tensors, header={policy: held for policy, (_, held) in alone.items()})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")  # which imports everything once
    context.set_forkserver_preload([__name__, "diffusers.models.autoencoders.autoencoder_kl_wan"])
    processes = [context.Process(target=join_and_check, args=(index, port, tmp_path)) for index in range(4)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(timeout=120)
        assert [process.exitcode for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()


def test_more_processes_than_heads_tokens_or_rows_allow_are_refused() -> None:
    class Sixteen(Ranks):
        def __init__(self) -> None:
            self.index, self.count = 0, 16

    config = DiTConfig(width=96, num_heads=24)
    with pytest.raises(ValueError, match=r"^16 processes cannot share 24 heads, 880 tokens and 44 rows .* 12, 24 \("):
        Sixteen().check(config, tokens=880, rows=44)
    with pytest.raises(ValueError, match=r"24 heads, 6 tokens and 4 rows of a latent; start 1, 2, 3, 4 \("):
        Sixteen().check(config, tokens=6, rows=4)
