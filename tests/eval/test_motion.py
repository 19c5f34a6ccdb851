from importlib import resources

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.motion import PoseEstimator, action_score, measure_floor, orthonormal
from worldenv.eval.suites.arms import blurred
from worldenv.eval.suites.cases import Cases, make_cases
from worldenv.eval.suites.score import Judge
from worldenv.geometry.action import ActionSteps
from worldenv.geometry.pose import invert_se3, relative
from worldenv.world.world import World

SPEC = WorldSpec()
UNITS = ActionSteps()


@pytest.fixture(scope="module")
def estimator() -> PoseEstimator:
    return PoseEstimator.load(spec=SPEC)


@pytest.fixture(scope="module")
def cases(sims: None) -> Cases:
    return make_cases(SPEC, [900_200, 900_201, 900_202, 900_203], ["out_and_back"] * 4, 4)


@pytest.fixture(scope="module")
def true(cases: Cases) -> torch.Tensor:
    """True motions, (B, F, 4, 4)."""
    whole = torch.cat([cases.start_c2w[:, None], cases.c2w], 1)
    return relative(whole[:, :-1], whole[:, 1:])


def motions(shape: tuple[int, ...] = (3, 5), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = np.tile(np.eye(4), (*shape, 1, 1))
    made[..., :3, :3] = (
        Rotation.from_rotvec(rng.normal(0, 0.2, (*shape, 3)).reshape(-1, 3)).as_matrix().reshape(*shape, 3, 3)
    )
    made[..., :3, 3] = rng.normal(0, 0.2, (*shape, 3))
    return made


def test_scores_equal_a_plain_transcription() -> None:
    a, b = motions(), motions(seed=1)
    found = action_score(torch.from_numpy(a), torch.from_numpy(b), units=UNITS)
    for i in range(3):
        errors, none = [], []
        for j in range(5):
            angle = (Rotation.from_matrix(a[i, j, :3, :3]).inv() * Rotation.from_matrix(b[i, j, :3, :3])).magnitude()
            metres = np.linalg.norm(a[i, j, :3, 3] - b[i, j, :3, 3])
            assert found.rotation[i, j] == pytest.approx(angle, abs=1e-6)
            assert found.translation[i, j] == pytest.approx(metres, abs=1e-6)
            errors.append(np.degrees(angle) / 11.25 + metres / 0.25)
            turned = Rotation.from_matrix(b[i, j, :3, :3]).magnitude()
            none.append(np.degrees(turned) / 11.25 + np.linalg.norm(b[i, j, :3, 3]) / 0.25)
        assert found.score[i] == pytest.approx(np.clip(1 - np.mean(errors) / np.mean(none), 0, 1), abs=1e-6)


def test_exact_motions_score_1_none_0_and_halves_half() -> None:
    commanded = torch.eye(4, dtype=torch.float64).repeat(2, 4, 1, 1)
    commanded[..., 2, 3] = 0.25
    assert action_score(commanded, commanded, units=UNITS).score.tolist() == [1, 1]
    still = torch.eye(4, dtype=torch.float64).expand_as(commanded)
    assert action_score(still, commanded, units=UNITS).score.tolist() == [0, 0]
    half = (still + commanded) / 2
    assert action_score(half, commanded, units=UNITS).score == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="trajectory 0 is commanded to stand still"):
        action_score(commanded, still, units=UNITS)


def test_the_nearest_rotation_is_scipys_and_never_a_mirror() -> None:
    rough = motions((20,))[:, :3, :3] + np.random.default_rng(2).normal(0, 1e-3, (20, 3, 3))
    found = orthonormal(torch.from_numpy(rough))
    torch.testing.assert_close(found, torch.from_numpy(Rotation.from_matrix(rough).as_matrix()), atol=1e-6, rtol=0)
    mirror = orthonormal(-torch.from_numpy(rough))
    torch.testing.assert_close(torch.det(mirror), torch.ones(20).double(), atol=1e-9, rtol=0)


def test_the_packaged_network_is_small_and_says_where_it_came_from(estimator: PoseEstimator) -> None:
    path = resources.files("worldenv") / "eval" / "motion.safetensors"
    assert len(path.read_bytes()) < 6_000_000
    assert sum(p.numel() for p in estimator.net.parameters()) < 1_500_000
    assert all(p.dtype == torch.float32 for p in estimator.net.parameters())


def test_other_frames_and_cameras_are_refused(estimator: PoseEstimator) -> None:
    for other in (
        WorldSpec(width=96, height=64),
        WorldSpec(width=128, height=48),
        WorldSpec(width=32, height=24),
        WorldSpec(fov_deg=75),
        WorldSpec(width=128, height=96, fov_deg=75),
    ):
        with pytest.raises(ValueError, match="64x48 or whole multiples, 90 degrees"):
            PoseEstimator.load(spec=other)
    good = torch.zeros(1, 5, 48, 64, 3, dtype=torch.uint8)
    assert estimator.steps(good).shape == (1, 1, 4, 4)
    for bad in (good.float(), good[..., :32, :], good[0], good.movedim(-1, 2)):
        with pytest.raises(ValueError, match=r"expected uint8 \(B, 1 \+ 4 F, 48, 64, 3\)"):
            estimator.steps(bad)
    for count in (1, 4, 6):
        with pytest.raises(ValueError, match="cut it to whole latents"):
            estimator.steps(good[:, :1].expand(-1, count, -1, -1, -1))
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 48, 64, 3\)"):
        estimator.features(good)


def test_larger_frames_are_measured_as_the_average_of_their_squares(estimator: PoseEstimator) -> None:
    larger = torch.randint(256, (1, 5, 96, 128, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    squares = torch.nn.functional.avg_pool2d(larger[0].permute(0, 3, 1, 2).float(), 2).permute(0, 2, 3, 1)
    smaller = squares.round().to(torch.uint8)[None]
    assert torch.equal(estimator.steps(larger), estimator.steps(smaller))
    np.testing.assert_array_equal(estimator.features(larger[0]), estimator.features(smaller[0]))


@pytest.mark.sim
def test_a_world_of_twice_the_size_is_measured_as_closely(cases: Cases, true: torch.Tensor) -> None:
    spec = WorldSpec(width=128, height=96)
    larger = make_cases(spec, cases.seeds[:2], cases.kinds[:2], 4)
    torch.testing.assert_close(larger.c2w, cases.c2w[:2])
    score = action_score(PoseEstimator.load(spec=spec).steps(larger.frames), true[:2], units=UNITS).score
    assert score.mean() > 0.88


@pytest.mark.sim
def test_true_clips_of_held_out_mazes_are_measured_closely(
    estimator: PoseEstimator, cases: Cases, tiny_world: World
) -> None:
    whole = torch.cat([cases.start_c2w[:, None], cases.c2w], 1)
    floor = measure_floor(estimator, cases.frames, whole, spec=SPEC, vae=tiny_world.vae)
    assert set(floor) == {"truth", "vae"}
    truth, noise = floor["truth"], floor["vae"]
    assert truth["latent_rotation_deg_median"] < 0.5
    assert truth["latent_translation_share_median"] < 0.06, "of a step; 0.051 over 16 mazes"
    assert truth["latent_rotation_deg_median"] < truth["latent_rotation_deg_p95"]
    assert truth["score_truth"] > 0.88
    assert truth["score_frozen"] < 0.05
    assert truth["score_shuffled"] < 0.5
    assert noise["score_truth"] < 0.5, "a codec of random weights shows no motion"
    with pytest.raises(ValueError, match="2 trajectories"):
        measure_floor(estimator, cases.frames[:1], whole[:1], spec=SPEC)


@pytest.mark.sim
def test_one_look_is_nearly_as_good(cases: Cases, true: torch.Tensor) -> None:
    quick = PoseEstimator.load(spec=SPEC, quick=True)
    scores = action_score(quick.steps(cases.frames), true, units=UNITS)
    assert scores.score.mean() > 0.85
    assert np.degrees(np.median(scores.rotation)) < 0.5


@pytest.mark.sim
def test_reversed_actions_score_less(estimator: PoseEstimator, cases: Cases, true: torch.Tensor) -> None:
    found = estimator.steps(cases.frames)
    forwards = action_score(found, true, units=UNITS).score
    backwards = action_score(found, invert_se3(true), units=UNITS).score
    assert (backwards < forwards - 0.5).all()


@pytest.mark.sim
def test_motions_are_rigid_and_the_same_for_every_batch(estimator: PoseEstimator, cases: Cases) -> None:
    found = estimator.steps(cases.frames)
    assert (found.shape, found.dtype) == ((4, 16, 4, 4), torch.float64)
    eye = torch.eye(3, dtype=torch.float64).expand(4, 16, 3, 3)
    torch.testing.assert_close(found[..., :3, :3] @ found[..., :3, :3].mT, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(estimator.steps(cases.frames[2:3]), found[2:3], atol=1e-4, rtol=0)


@pytest.mark.sim
def test_tracks_follow_the_camera(estimator: PoseEstimator, cases: Cases) -> None:
    track = estimator.track(cases.frames, cases.start_c2w)
    assert torch.equal(track[:, 0], cases.start_c2w)
    gap = (track[:, 1:, :3, 3] - cases.c2w[..., :3, 3]).norm(dim=-1)
    assert gap.median() < 0.25, "one step, over 16"
    moved = relative(track[:, :-1], track[:, 1:])
    torch.testing.assert_close(moved, estimator.steps(cases.frames), atol=1e-9, rtol=0)


@pytest.mark.sim
def test_features_tell_pictures_apart(estimator: PoseEstimator, cases: Cases) -> None:
    frames = cases.frames[:, ::8].flatten(0, 1)
    features = estimator.features(frames)
    assert (features.shape, features.dtype) == ((len(frames), 160), np.float64)
    assert np.allclose(estimator.features(frames[3:5]), features[3:5], atol=1e-4)
    changes = [
        np.linalg.norm(estimator.features(blurred(frames[None], factor)[0]) - features, axis=1).mean()
        for factor in (2, 4)
    ]
    assert 0 < changes[0] < changes[1]


@pytest.mark.sim
def test_given_frames_tell_nothing_of_an_arm(cases: Cases) -> None:
    """One that is given the first half and then stands still obeys no command, and has its own pictures only."""
    judge = Judge(SPEC, 64, estimator=PoseEstimator.load(spec=SPEC, quick=True))
    half = (cases.frames.shape[1] - 1) // 2
    still = torch.cat([cases.frames[:, : half + 1], cases.frames[:, half : half + 1].expand(-1, half, -1, -1, -1)], 1)
    whole, own = judge(still, cases), judge(still, cases, half)
    assert (own.metrics["action_score"] < 0.1).all()
    assert (whole.metrics["action_score"] > 0.2).all()
    assert own.features["frechet_pose_features"].shape[1] == half // 4
    true = judge(cases.frames, cases, half)
    assert true.metrics["action_score"].mean() > 0.8
    assert true.metrics["r_dist"].mean() < judge(cases.frames, cases).metrics["r_dist"].mean()
