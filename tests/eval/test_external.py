"""Models from elsewhere stand in the same table."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from worldenv.base.objects import import_object
from worldenv.cli import main
from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.report.document import compare
from worldenv.eval.suites import external
from worldenv.eval.suites.external import read_manifest, write_cases

pytestmark = pytest.mark.usefixtures("sims")
SEEDS = (900_000, 900_001)
NAMES = ("900000-out_and_back", "900001-circle")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vizdoom")
    folder = tmp_path_factory.mktemp("cases")
    write_cases("revisit", folder, num_worlds=2, first_seed=None)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["worldenv", *map(str, arguments)])
    main()


def truths(cases: Path) -> dict[str, np.ndarray]:
    return {name: np.load(cases / name / "truth.npz")["frames"] for name in NAMES}


def score(monkeypatch: pytest.MonkeyPatch, cases: Path, clips: Path, out: Path) -> dict[str, Any]:
    run(monkeypatch, "eval", "revisit", "--videos", clips, "--manifest", cases / "manifest.json", "--out", out)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_cases_hold_what_a_model_needs(cases: Path) -> None:
    again, _ = read_manifest(cases / "manifest.json", "revisit")
    assert (again.seeds, again.kinds) == (list(SEEDS), ["out_and_back", "circle"])
    path, truth = np.load(cases / NAMES[0] / "path.npz"), truths(cases)[NAMES[0]]
    assert (again.frames[0].numpy() == truth).all()
    assert truth.shape == (1 + 4 * len(path["keys"]), 48, 64, 3)
    assert (iio.imread(cases / NAMES[0] / "start.png") == truth[0]).all()
    np.testing.assert_allclose(path["c2w"][-1], path["c2w_start"], atol=1e-6)
    np.testing.assert_allclose(path["K"], WorldSpec().K.numpy())


def test_clips_from_elsewhere_are_scored_beside_the_controls(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth handed back scores as the simulator does; a picture that never moves as the frozen control."""
    for name, still in (("perfect", False), ("still", True)):
        (tmp_path / name).mkdir()
        for case, frames in truths(cases).items():
            made = np.broadcast_to(frames[:1], frames.shape) if still else frames
            np.savez(tmp_path / name / f"{case}.npz", frames=made)
    perfect = score(monkeypatch, cases, tmp_path / "perfect", tmp_path / "a")["arms"]
    assert perfect["perfect"] == perfect["simulator"]
    assert set(perfect) == {"perfect", "frozen", "last_frame", "blur", "simulator"}
    still = score(monkeypatch, cases, tmp_path / "still", tmp_path / "b")["arms"]
    assert still["still"] == still["frozen"]
    run(monkeypatch, "eval", "compare", tmp_path / "a", tmp_path / "b" / "report.json")


def test_clips_that_are_missing_or_wrong_are_all_named(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / f"{NAMES[1]}.npz", frames=np.zeros((3, 48, 64, 3), np.uint8))
    with pytest.raises(SystemExit) as error:
        score(monkeypatch, cases, tmp_path, tmp_path / "out")
    assert error.value.code
    with pytest.raises(ValueError, match=r"no 900000-out_and_back.npz or .mp4; 900001-circle.npz: uint8 \(3,"):
        external.read_videos(tmp_path, read_manifest(cases / "manifest.json", "revisit")[0])
    (tmp_path / "m.json").write_text(
        '{"format": 1, "suite": "revisit", "protocol": "revisit-v0", "chunks": 1, '
        '"cases": [{"seed": 1, "path": "turn"}]}'
    )
    with pytest.raises(ValueError, match="this version scores"):
        read_manifest(tmp_path / "m.json", "revisit")
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(ValueError, match="no manifest of cases"):
        read_manifest(tmp_path / "m.json", "revisit")


def test_any_dynamics_can_be_stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator as a foreign model: it goes the way it is told, collisions apart, and forgets nothing."""
    run(
        monkeypatch,
        "eval",
        "revisit",
        "--dynamics",
        "worldenv.sims.doom.sim:DoomDynamics",
        "--worlds",
        2,
        "--out",
        tmp_path,
    )
    arms = json.loads((tmp_path / "report.json").read_text())["arms"]
    assert arms["DoomDynamics"]["return_psnr_gt"]["mean"] > 30
    assert arms["DoomDynamics"]["motion_ratio"]["mean"] == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match=r"pass package.module:Class"):
        import_object("worldenv.sims.doom.sim:Nothing", what="dynamics")
    with pytest.raises(ValueError, match=r"pass package.module:Class"):
        import_object("nothing", what="dynamics")


def test_reports_of_other_suites_are_not_compared(tmp_path: Path) -> None:
    for name, suite in (("a", "revisit"), ("b", "action")):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"format": 1, "suite": suite, "protocol": "v", "arms": {}, "seeds": []})
        )
    with pytest.raises(ValueError, match=r"is revisit v, .* is action v"):
        compare(tmp_path / "a.json", tmp_path / "b.json")
