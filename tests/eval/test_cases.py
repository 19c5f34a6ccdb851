from dataclasses import replace

import numpy as np
import pytest
import torch

from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.eval.image import frame_psnr
from worldenv.eval.suites.another_way import WAYS, Way, plan_another_way, returns_along, round_trip
from worldenv.eval.suites.cases import (
    KINDS,
    Cases,
    digests,
    make_cases,
    protocol_of,
    published,
    returns,
    start_digests,
    true_overlap,
)
from worldenv.eval.suites.listing import MAZES as LISTED
from worldenv.eval.suites.registry import RUNS, suite_cases
from worldenv.geometry.action import camera_to_c2w
from worldenv.geometry.path import FreeSpace
from worldenv.geometry.pose import look, relative, yaw_pitch
from worldenv.memory.config import Layout, with_policy
from worldenv.world.world import World

LAP = 128


def test_an_out_and_back_path_mirrors_in_time() -> None:
    first = returns("out_and_back", 33, lap=LAP)
    assert first[:17].tolist() == [-1] * 17
    assert first[17:].tolist() == list(range(15, -1, -1))


def test_laps_come_back_to_the_first_one() -> None:
    first = returns("circle", 1 + 2 * LAP + 5, lap=LAP)
    assert (first[:LAP] == -1).all()
    assert first[LAP] == 0, "the lap ends where it began"
    assert first[LAP + 1 : 2 * LAP + 1].tolist() == list(range(1, LAP + 1))
    assert first[2 * LAP + 1 :].tolist() == [1, 2, 3, 4, 5], "the third lap comes back to the first as well"
    assert (returns("explore", 65, lap=LAP) == -1).all()


def test_the_true_overlap_is_the_share_that_an_entry_shows() -> None:
    """Nine latents, two points each: chunk 2 sees both; entry 0 shows one of them, entry 1 the other in two latents."""
    seen = torch.zeros(9, 9, 2, dtype=torch.bool)
    seen[5:9, 0, 0] = True
    seen[5:9, 2:4, 1] = True
    seen[5:7, 4, 0] = True
    share = true_overlap(seen, Layout(4))
    assert share.shape == (2, 3)
    assert share[1].tolist() == [0.5, 0.75, 0]
    assert share[0].tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def cases(sims: None) -> Cases:
    return make_cases(WorldSpec(), [900_000, 900_001, 900_003, 910_000, 970_001], list(KINDS), 16, depth=True)


@pytest.mark.sim
def test_frames_that_return_have_the_same_pose_and_look_the_same(cases: Cases) -> None:
    poses = torch.cat([cases.start_c2w[:, None], cases.c2w], 1)  # of frames 0, 4, 8, ...
    for row, kind in enumerate(cases.kinds):
        first = cases.first[row, ::4]
        back = (first >= 0).nonzero()[:, 0]
        assert len(back) == {"explore": 0, "out_and_back": 32, "circle": 33, "turn": 33, "another_way": 5}[kind]
        assert (first[back] % 4 == 0).all()
        torch.testing.assert_close(poses[row, back], poses[row, first[back] // 4], atol=1e-6, rtol=0)
        frames = (cases.first[row] >= 0).nonzero()[:, 0]
        if len(frames):
            alike = frame_psnr(cases.frames[row, frames], cases.frames[row, cases.first[row, frames]])
            assert alike.min() > 33


@pytest.mark.sim
def test_paths_move_and_are_no_still_pictures(cases: Cases) -> None:
    moved = (cases.c2w[:, :, :3, 3] - cases.start_c2w[:, None, :3, 3]).norm(dim=-1).amax(1)
    turned = torch.linalg.norm(cases.c2w[:, :, :3, :3] - cases.start_c2w[:, None, :3, :3], dim=(-2, -1)).amax(1)
    for kind, metres, turn in zip(cases.kinds, moved, turned, strict=True):
        assert metres > (0.3 if kind != "turn" else -1)
        assert metres < 1e-6 or kind != "turn"
        assert turn > 1


@pytest.mark.sim
def test_the_start_view_shows_what_is_ahead_and_not_what_is_behind(cases: Cases) -> None:
    assert cases.seen is not None
    share = cases.seen.float().mean(2)  # (B, F)
    turn = cases.kinds.index("turn")
    assert share[turn, 0] > 0.7, "after 11 degrees 83 % of the picture is still in view"
    assert share[turn, 15] < 0.05, "after half a turn nothing is"
    assert share[turn, 31] > 0.95, "after a whole one all is"


@pytest.mark.sim
def test_cases_can_be_taken_in_part(cases: Cases) -> None:
    part = cases.rows(slice(1, 3)).cut(61)
    assert (len(part), part.kinds) == (2, ["circle", "turn"])
    assert part.frames.shape[:2] == part.first.shape == (2, 61)
    assert part.c2w.shape[1] == part.keys.shape[1] == 15
    assert part.seen is not None
    assert part.seen.shape[1] == 15
    assert cases.cut(None) is cases


@pytest.mark.sim
def test_published_cases_are_what_they_were(cases: Cases) -> None:
    listed = published("revisit", WorldSpec())
    for row, seed in ((0, 900_000), (1, 900_001), (2, 900_003)):
        place = listed["seeds"].index(seed)
        assert cases.kinds[row] == listed["kinds"][place]
        assert digests(cases)[row] == listed["digests"][place]
    assert digests(replace(cases, c2w=cases.c2w + 1e-3)) != digests(cases)
    for suite in ("revisit", "short_term", "drift"):
        listed = published(suite, WorldSpec())
        assert len(listed["seeds"]) == len(set(listed["seeds"])) == len(listed["kinds"]) == len(listed["digests"])
        assert min(listed["seeds"]) >= 900_000, "held-out maps"


@pytest.mark.sim
def test_an_oracle_retrieves_what_the_simulator_says_was_seen(sims: None, tiny_world: World) -> None:
    cases = make_cases(WorldSpec(), [900_000], ["out_and_back"], 10, depth=True)
    assert cases.overlap is not None
    assert cases.overlap.shape == (1, 10, 11)
    engine = Engine(tiny_world, 1, memory=with_policy(tiny_world.config.memory, "oracle"), decode=False)
    engine.history.oracle = lambda length: cases.overlap[:, (int(length[0]) - 1) // 4]  # type: ignore[index]
    chosen = []
    engine.resume(cases.frames[:, :1], {"c2w": cases.start_c2w[:, None]}, seeds=[0])
    for commands in cases.actions(4):
        engine.generate(commands)
        assert engine.history.selection is not None
        chosen.append(engine.history.selection.retrieved[0].tolist())
    for chunk in range(5, 10):
        best = cases.overlap[0, chunk, : chunk - 2].max()
        assert float(cases.overlap[0, chunk, chosen[chunk][0]]) == pytest.approx(float(best))
    assert cases.overlap[0, 9, :3].max() > 0.2, "the last chunk sees again what the first ones showed"


def test_digests_ignore_rounding() -> None:
    frames, path = torch.zeros(1, 5, 2, 2, 3, dtype=torch.uint8), torch.eye(4, dtype=torch.float64).repeat(1, 1, 1, 1)
    one = Cases([0], ["turn"], path[:, 0], path, torch.zeros(1, 1, 2).long(), frames, torch.full((1, 5), -1))
    assert digests(one) == digests(replace(one, c2w=path + 1e-7))
    assert len(np.unique([digests(one)[0], digests(replace(one, frames=frames + 1))[0]])) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_round_comes_home_from_the_side_it_names(way: Way) -> None:
    """The last walk before the turns at home leads away from where the camera came from, seen from the start view."""
    space = FreeSpace(np.pad(np.ones((12, 12), bool), 1), 1.0)
    spec = WorldSpec()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        start, camera = plan_another_way(space, -1.28, 64, rng, spec, way=way, clearance=0.65)
        path = camera_to_c2w(torch.from_numpy(camera), start, spec.steps)
        places = relative(start.expand(64, 4, 4), path)[:, :3, 3]
        home = (places.norm(dim=1) < 1e-6).nonzero()[:, 0]
        last = places[home[0] - 1]
        side = {"left": last[0] < -0.1, "right": last[0] > 0.1, "opposite": last[2] > 0.1}
        assert side == {name: name == way for name in WAYS}
        assert places.norm(dim=1).max() > 1
        assert (path[-4:] - start).abs().max() < 1e-9
        assert yaw_pitch(relative(start, path[home[0]]))[0].abs() > 1, "and looks another way when it arrives"
        first = returns_along(start, path)
        back = (first >= 0).nonzero()[:, 0]
        assert back.tolist() == list(range(int(back[0]), 257))
        assert (first[back] == 0).all()
        assert len(back) >= 17
    with pytest.raises(ValueError, match="16 latents are too few"):
        plan_another_way(space, -1.28, 16, np.random.default_rng(0), spec, way=way, clearance=0.65)
    narrow = FreeSpace(np.pad(np.ones((2, 2), bool), 1), 1.0)
    with pytest.raises(ValueError, match="no room for a round"):
        plan_another_way(narrow, -1.28, 41, np.random.default_rng(0), spec, way=way, clearance=0.9)


@pytest.mark.parametrize("way", WAYS)
def test_a_round_ends_as_it_began_whatever_the_step(way: Way) -> None:
    moves = torch.tensor(round_trip(way, 3, 5, 7, 90 / 15 / 7, -1), dtype=torch.float64)
    zero = torch.zeros_like(moves[:, 0])
    camera = torch.stack([moves[:, 0], moves[:, 1], zero, moves[:, 2], zero], 1)
    spec = WorldSpec()
    steps = replace(spec.steps, turn_deg=15.0)
    start = look(torch.tensor([1.0, -1.28, 2.0]).double(), torch.tensor(0.3).double())
    assert (camera_to_c2w(camera, start, steps)[-1] - start).abs().max() < 1e-9


@pytest.mark.parametrize("maze", LISTED)
def test_mazes_with_objects_have_published_cases_of_their_own(sims: None, maze: str) -> None:
    spec = WorldSpec(maze=maze)
    assert protocol_of(spec) == "revisit-v2"
    assert protocol_of(WorldSpec()) == "revisit-v1"
    for suite in ("revisit", "short_term", "drift"):
        listed = published(suite, spec)
        assert len(listed["seeds"]) == len(set(listed["seeds"])) == len(listed["kinds"]) == len(listed["digests"])
        assert min(listed["seeds"]) >= 970_000, "apart from all that is recorded"
    listed = published("revisit", spec)
    assert len(listed["seeds"]) == 64
    assert set(listed["kinds"]) == {"out_and_back", "circle", "turn", "another_way"}
    assert start_digests(spec, listed["seeds"][:3], listed["kinds"][:3], 16) == listed["digests"][:3]
    others = published("revisit", WorldSpec(maze=next(name for name in LISTED if name != maze)))
    assert not set(listed["digests"]) & set(others["digests"])


@pytest.mark.sim
def test_suites_take_the_cases_of_the_worlds_mazes(sims: None) -> None:
    cases, source = suite_cases(RUNS["short_term"], WorldSpec(maze="plain-objects"), 1, None)
    assert source == "revisit-v2"
    assert cases.seeds == [980_000]
    assert suite_cases(RUNS["short_term"], WorldSpec(), 1, None)[1] == "revisit-v1"
