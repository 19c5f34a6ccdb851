"""Episodes through the VAE: one by one or together, in any order, they come out alike, and nobody asks in vain."""

from __future__ import annotations

import pytest
import torch

from worldenv.data.events import Episode
from worldenv.dynamics.signals import Track
from worldenv.training import decoded
from worldenv.training.augment import round_trip
from worldenv.training.decoded import Decoded
from worldenv.world.world import World


def episodes(lengths: list[int]) -> list[Episode]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for number, count in enumerate(lengths):
        frames = torch.randint(0, 256, (1 + 4 * count, 16, 16, 3), generator=generator, dtype=torch.uint8)
        nothing = Track({})
        made.append(Episode(frames, nothing, nothing, torch.zeros(count), torch.zeros(count).bool(), number))
    return made


def test_what_is_decoded_does_not_depend_on_when_and_beside_what(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, vae = episodes([3, 1, 2, 3]), tiny_world.vae
    one_by_one, together = (Decoded(vae, some, noise=0.5, seed=3) for _ in range(2))
    first = {number: one_by_one.of([number])[0].frames for number in (2, 0, 3, 1)}
    alone = [Decoded(vae, [one], seed=3).of([0])[0].frames for one in some]
    assert all(len(frames) == len(one.frames) for frames, one in zip(alone, some, strict=True))
    plain = Decoded(vae, some, seed=3).all()
    assert max((a.int() - b.frames.int()).abs().max() for a, b in zip(alone, plain, strict=True)) <= 1, "rounding"
    for number, episode in enumerate(together.all()):
        assert torch.equal(episode.frames, first[number])
        assert len(episode.frames) == len(some[number].frames)
    assert not torch.equal(first[0], Decoded(vae, some, noise=0.5, seed=4).of([0])[0].frames)
    assert torch.equal(Decoded(vae, some).of([0])[0].frames, round_trip(vae, some[0].frames))
    monkeypatch.setattr(decoded, "round_trips", None)
    assert together.of([1, 1]) == [together.all()[1]] * 2, "kept"
    with pytest.raises(TypeError):
        Decoded(vae, some).of([0])
