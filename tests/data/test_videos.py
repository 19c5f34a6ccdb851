"""Folders of videos with what was done beside each, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.foreign import pictures, write_video
from tests.data.turntable import clips_of
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.dynamics.spec import WorldSpec


def asked(folder: Path, **changes: Any) -> RecordConfig:
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    return replace(RecordConfig(env=f"videos:{folder}", num_latents=16, spec=spec), **changes)


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Two videos of 20 frames, the first with 20 rows of csv, the second with 19."""
    folder = tmp_path / "drives"
    for name, rows in (("a", 20), ("b", 19)):
        write_video(folder / f"{name}.mp4", pictures(20))
        lines = [f"{i % 3},{i / 10:.2f},{float(i == 15)}" for i in range(rows)]
        (folder / f"{name}.csv").write_text("\n".join(["turn,gas,reward", *lines]) + "\n")
    return folder


def test_a_table_beside_each_video(in_process: None, drives: Path, tmp_path: Path) -> None:
    record(asked(drives), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert (abs(clip.frames[:, 0, 0, 0].astype(int) - pictures(17)[:, 0, 0, 0]) <= 2).all()
    assert clip.signals["action"][1:, :3].argmax(1).tolist() == [i % 3 for i in range(16)]
    assert np.allclose(clip.signals["action"][1:, 3], np.arange(16) / 10)
    assert clip.signals["reward"].tolist() == [0] * 16 + [1]
    spec = json.loads((tmp_path / "out" / "recording.json").read_text())["spec"]
    assert [(part["name"], part["kind"]) for part in spec["environment"]["actions"]] == [
        ("turn", "discrete"),
        ("gas", "box"),
    ]
    assert spec["fps"] == 10


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [("a.npy", "multi_discrete", 5), ("a.json", "box", 2), ("rows.json", "discrete", 4)],
)
def test_arrays_and_json(tmp_path: Path, name: str, kind: str, size: int) -> None:
    write_video(tmp_path / f"{Path(name).stem}.mp4", pictures(40))
    if name == "a.npy":
        np.save(tmp_path / name, np.stack([np.arange(40) % 2, np.arange(40) % 3], 1))
    else:
        rows = [[0.5 * i, 1] for i in range(40)] if name == "a.json" else [i % 4 for i in range(40)]
        (tmp_path / name).write_text(json.dumps(rows))
    (part,) = make_source(asked(tmp_path)).reader.parts  # type: ignore[attr-defined]
    assert (part.kind, part.size) == (kind, size)


def test_one_video_holds_its_end_out(in_process: None, tmp_path: Path) -> None:
    write_video(tmp_path / "long" / "a.mp4", pictures(200))
    np.save(tmp_path / "long" / "a.npy", np.arange(200) % 5)
    with pytest.raises(ValueError, match="held-out episodes hold 20 frames in all, a clip of num_latents=32 33"):
        make_source(asked(tmp_path / "long", first_seed=900_000, num_latents=32))
    record(asked(tmp_path / "long", first_seed=900_000), tmp_path / "heldout")
    (clip,) = clips_of(tmp_path / "heldout")
    assert clip.signals["action"][1:].argmax(1).tolist() == [i % 5 for i in range(180, 196)]
    assert make_source(asked(tmp_path / "long")).num_clips == 179 // 16  # type: ignore[attr-defined]


def _line(number: int, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        lines = (folder / "b.csv").read_text().splitlines()
        lines[number + 1] = text
        (folder / "b.csv").write_text("\n".join(lines))

    return spoil


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("turn,gas\n", "a.csv: no rows"),
        (np.zeros(0), "a.npy: no rows"),
        (np.zeros((0, 2)), "a.npy: no rows"),
        (np.zeros((20, 0)), "a.npy: the action has 0 numbers a row"),
        (np.full(20, 2**64 - 1, np.uint64), "a.npy: row 0: the action is 18446744073709551615; numbers up to 1e"),
        (np.array([0.5] * 19 + [1e300]), "a.npy: row 19: the action is 1e"),
        ([[]] * 20, "a.json: the action has 0 numbers a row"),
        ([{"turn": 1, "reward": [0, 1]}] * 20, "a.json: reward has 2 numbers a row; one is read"),
    ],
)
def test_tables_without_numbers_or_with_too_large_ones_are_refused_by_their_file(
    tmp_path: Path, made: Any, said: str
) -> None:
    write_video(tmp_path / "a.mp4", pictures(20))
    if isinstance(made, np.ndarray):
        np.save(tmp_path / "a.npy", made)
    else:
        file = tmp_path / ("a.csv" if isinstance(made, str) else "a.json")
        file.write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(ValueError, match=said):
        make_source(asked(tmp_path))


def test_numbers_of_any_width_are_read(in_process: None, tmp_path: Path) -> None:
    write_video(tmp_path / "long" / "a.mp4", pictures(20))
    for kind in (np.longdouble, np.float16, np.uint64, np.bool_):
        np.save(tmp_path / "long" / "a.npy", np.arange(20).astype(kind))
        (part,) = make_source(asked(tmp_path / "long")).reader.parts  # type: ignore[attr-defined]
        assert part.kind == ("box" if np.issubdtype(kind, np.floating) else "discrete")


def test_a_rate_that_is_no_whole_number_is_told(tmp_path: Path) -> None:
    for rate, told in ((Fraction(30000, 1001), False), (Fraction(25, 2), True)):
        write_video(tmp_path / "a.mp4", pictures(20), fps=rate)
        np.save(tmp_path / "a.npy", np.arange(20) % 2)
        said = make_source(asked(tmp_path)).describe()  # type: ignore[attr-defined]
        assert ("12.5 frames a second, which a world of it shows at 12" in said) == told


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_line(3, "1,nan,0"), "b.csv: row 3: gas is nan"),
        (_line(3, "1,0,inf"), "b.csv: row 3: reward is inf"),
        (_line(3, "1,left,0"), "b.csv: row 3: '1,left,0' is not 3 numbers"),
        (_line(3, "1,0"), "b.csv: row 3: '1,0' is not 3 numbers"),
        (_line(3, "70000,0,0"), "turn has whole numbers from 0 to 70000; that many choices cannot be embedded"),
        (_line(-1, "turn,brake,reward"), "b.csv|b.mp4: its columns are turn, brake, reward; those of a.mp4 turn, gas"),
        (lambda f: (f / "b.csv").unlink(), "b.mp4: nothing beside it; one of b.csv, .json or .npy"),
        (lambda f: write_video(f / "b.mp4", pictures(18)), "b.mp4: 18 frames, and 19 rows of actions beside it"),
        (lambda f: write_video(f / "b.mp4", pictures(20, size=(32, 32))), "b.mp4: frames of 32x32, .*a.mp4 has 48x32"),
        (lambda f: write_video(f / "b.mp4", pictures(20), fps=25), "b.mp4: 25 frames a second, .*a.mp4 has 10"),
        (
            lambda f: (f / "b.mp4").write_bytes((f / "b.mp4").read_bytes()[:-300]),
            "b.mp4: no frame can be read; is the file",
        ),
        (lambda f: (f / "b.mp4").write_text("#EXTM3U\n"), "b.mp4: cannot be read"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_file_and_row(
    drives: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(drives)
    with pytest.raises(ValueError, match=said):
        make_source(asked(drives))


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no videos .* so there are no pictures to learn from"):
        make_source(asked(tmp_path))
