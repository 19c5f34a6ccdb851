from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from worldenv.eval.report.pictures import draw_curves


def test_given_chunks_are_left_out_and_seeds_share_a_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str | None, list[tuple[np.ndarray, str]]] = {}
    plot = Axes.plot

    def spying(axis: Axes, x: Any, y: np.ndarray, style: str, *, label: str | None, color: str) -> Any:
        drawn.setdefault(label, []).append((y, color))
        return plot(axis, x, y, style, label=label, color=color)

    monkeypatch.setattr(Axes, "plot", spying)
    made, given = np.full((2, 3), 20.0), np.array([[60.0, 20.0, 18.0]])
    draw_curves(
        tmp_path / "a.png",
        {
            "long@1": {"psnr": given},
            "short@1": {"psnr": made},
            "long@2": {"psnr": given},
            "simulator": {"psnr": 3 * made},
            "worldplay": {"psnr": made},
            "worldplay_rendered": {"psnr": made},
        },
    )
    assert (tmp_path / "a.png").stat().st_size > 0
    labels = {"long", "short", "simulator", "worldplay", "worldplay_rendered"}
    assert set(drawn) == labels | {None}, "one label per arm"
    assert len({to_hex(drawn[label][0][1]) for label in labels}) == len(labels), "and one colour"
    np.testing.assert_array_equal(drawn["long"][0][0], [np.nan, 20, 18])
    assert np.isnan(drawn["simulator"][0][0]).all()
    assert drawn["long"][0][1] == drawn[None][0][1] != drawn["short"][0][1]
