"""Moments that are kept: each is what was kept, whatever grew, changed or was left out in between."""

from __future__ import annotations

import pytest
import torch

from worldenv.play.server.kept import Kept


def states(count: int) -> list[dict[str, torch.Tensor]]:
    """States with a part that grows, one that grows and is rewritten now and then, and one that changes."""
    generator, made = torch.Generator().manual_seed(0), []
    grown = torch.zeros(1, 0, 3)
    for i in range(count):
        grown = torch.cat([grown, torch.randn(1, 2, 3, generator=generator)], 1)
        other = grown[..., 0] * (1 + i // 3)
        made.append({"grown": grown, "other": other, "now": torch.randn(1, 5, generator=generator)})
    return made


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_moment_is_what_was_kept_and_growth_is_kept_once():
    kept, made = Kept(100, 1e9), states(40)
    for i, state in enumerate(made):
        kept.keep(i, state)
    assert all(same(kept.state(i), state) for i, state in enumerate(made))
    whole = sum(part.numel() * part.element_size() for state in made for part in state.values())
    assert kept.size < whole / 2


def test_going_back_forgets_what_came_after():
    kept, made = Kept(100, 1e9), states(12)
    for i, state in enumerate(made[:8]):
        kept.keep(i, state)
    kept.go_back(3)
    with pytest.raises(ValueError, match=r"chunk=4 is not kept; there are 0\.\.3"):
        kept.state(4)
    other = kept.copy(2)
    for i in (4, 5):
        kept.keep(i, made[i + 5])
    other.keep(3, made[11])
    assert same(kept.state(2), made[2])
    assert same(kept.state(5), made[10])
    assert same(other.state(1), made[1])
    assert same(other.state(3), made[11])
    assert sorted(kept.moments) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("most", "size"), [(4, 1e9), (100, 3000)])
def test_the_oldest_are_left_out(most, size):
    kept, made = Kept(most, size), states(30)
    for i, state in enumerate(made):
        kept.keep(i, state)
    assert len(kept.moments) <= most
    assert kept.size <= size
    assert sorted(kept.moments) == list(range(30 - len(kept.moments), 30))
    assert all(same(kept.state(i), made[i]) for i in kept.moments)
