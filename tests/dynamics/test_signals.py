"""Named tensors, indexed and joined as a whole."""

from __future__ import annotations

import pytest
import torch

from worldenv.dynamics.signals import C2W, KEYS, Signal, Track, check_signals
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.action import camera_to_c2w, keys_to_camera


def some(num_latents: int = 4) -> Track:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 9, (2, num_latents, 2), generator=generator)
    return Track(keys=keys, push=torch.rand(2, num_latents, 3, generator=generator))


def test_tracks_are_cut_and_joined_as_a_whole() -> None:
    track = some(5)
    parts = track.split(2)
    assert [part.num_latents for part in parts] == [2, 2, 1]
    again = Track.join(parts)
    assert all(torch.equal(again[name], track[name]) for name in track)
    assert track.num_rows == 2
    row = track.at((torch.tensor([1])[:, None], torch.tensor([[3, 0]])))
    assert torch.equal(row["push"], track["push"][1:, [3, 0]])
    assert isinstance(row, Track)


def test_rows_are_chosen_by_mask() -> None:
    one, other = some(), some().map(torch.zeros_like)
    chosen = one.where(torch.tensor([True, False]), other)
    for name, part in chosen.items():
        assert torch.equal(part[0], one[name][0])
        assert not part[1].any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "lack 'push'"),
        ({"push": torch.zeros(2, 4, 2)}, r"expected float32 \(2, 4, 3\)"),
        ({"push": torch.zeros(2, 4, 3, dtype=torch.long)}, "is torch.int64"),
        ({"push": torch.full((2, 4, 3), torch.nan)}, "NaN or infinity"),
        ({"push": torch.full((2, 4, 3), 1.5)}, r"within -1\.\.1"),
    ],
)
def test_what_was_not_declared_so_is_refused(given: dict[str, torch.Tensor], said: str) -> None:
    declared = {"push": Signal(shape=(3,), low=-1.0, high=1.0)}
    with pytest.raises(ValueError, match=said):
        check_signals(given, declared, what="commands", lead=(2, 4))
    check_signals({"push": torch.ones(2, 4, 3)}, declared, what="commands", lead=(2, 4))


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        ({}, "a film"),
        ({"a.b": Signal(shape=(1,))}, "no name of a signal"),
        ({"keys": Signal(shape=(5,))}, "give another one another name"),
        ({"keys": Signal(shape=(2,))}, "signal 'keys' has dtype 'float32', not 'int64'"),
        (
            {"c2w": Signal(shape=(4, 4), dtype="float64", rate="chunk")},
            "'c2w' has rate 'chunk', not 'latent'",
        ),
        ({"push": Signal(shape=(3,), rate="frame")}, "once per latent"),
    ],
)
def test_specs_are_refused_that_nothing_could_step(takes: dict[str, Signal], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WorldSpec(takes=takes, gives={})


def test_what_a_world_takes_is_checked_where_it_gives_the_same_too() -> None:
    for wrong in (Signal(shape=(4, 4)), Signal(shape=(4, 4), dtype="float64", rate="chunk")):
        for takes, gives in ((wrong, C2W), (C2W, wrong)):
            with pytest.raises(ValueError, match="give another one another name"):
                WorldSpec(takes={"c2w": takes}, gives={"c2w": gives})


def test_specs_are_told_apart_and_found_again() -> None:
    one, other = WorldSpec(), WorldSpec(takes={"push": Signal(shape=(3,))}, gives={})
    assert one != other
    assert {one: 1, other: 2}[WorldSpec()] == 1
    gear = WorldSpec(takes={"gear": Signal(shape=(), dtype="int64", low=1, high=5)}, gives={})
    check_signals(gear.still(2), gear.takes, what="the start", lead=(2, 1))  # nothing commanded is within bounds
    assert gear.still(2)["gear"].dtype == WorldSpec().still(2)["keys"].dtype == torch.int64
    assert gear.takes["gear"].bounds == (1, 5)
    assert Signal(shape=(), dtype="uint8").bounds == (0, 255)


def test_a_spec_completes_what_a_clip_lacks() -> None:
    spec = WorldSpec()
    keys = torch.tensor([[[0, 0], [1, 0], [1, 1], [0, 2]]])
    start = torch.eye(4, dtype=torch.float64)[None]
    path = torch.cat([start[:, None], camera_to_c2w(keys_to_camera(keys[:, 1:]), start, spec.steps)], 1)
    track = spec.complete({"c2w": path})
    assert torch.equal(track["keys"], keys)  # read off the way
    assert torch.equal(spec.complete({"c2w": path, "keys": 0 * keys})["keys"], 0 * keys)  # what was given stays
    pushed = WorldSpec(takes={"push": Signal(shape=(3,))}, gives={})
    assert not pushed.has_camera
    assert not pushed.complete({"c2w": path})["push"].any()
    assert pushed.still(5)["push"].shape == (5, 1, 3)
    assert (KEYS.bounds, C2W.bounds) == ((0, 8), (-torch.inf, torch.inf))
