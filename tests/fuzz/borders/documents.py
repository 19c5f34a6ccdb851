"""Documents: manifests of cases and of recordings, reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.damage import damaged, leaves, of_another_type, put, shown, without
from worldenv.base.config import to_dict
from worldenv.data.record import RecordConfig, _check_manifest
from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.report.document import compare
from worldenv.eval.suites.external import parse_manifest

BROKEN = ("", "{", "[]", "3", "null", '"x"', "[" * 9000, "1" * 9000, "{}")
"""Texts that are no document."""


def manifest(folder: Path) -> st.SearchStrategy[Case]:
    """Manifests of a suite's cases, and of a recording."""
    cases = [{"id": f"{900_000 + i}-circle", "seed": 900_000 + i, "path": "circle", "num_frames": 17} for i in range(3)]
    ours = {
        "format": 1,
        "suite": "revisit",
        "protocol": "revisit-v1",
        "chunks": 1,
        "spec": to_dict(WorldSpec()),
        "cases": cases,
    }

    def case(what: str, accept: bool | None, text: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "manifest.json").write_bytes(text)
            parse_manifest(scratch / "manifest.json", "revisit")

        return Case(f"cases: {what}", accept, act, names="manifest.json" if accept is False else "")

    config = RecordConfig()
    told = json.loads(json.dumps(to_dict(config)))

    def recording(what: str, accept: bool | None, text: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "recording.json").write_bytes(text)
            _check_manifest(config, scratch)

        return Case(f"recording: {what}", accept, act)

    menu = [
        case("as they are", True, json.dumps(ours).encode()),
        recording("as it is", True, json.dumps(told).encode()),
    ]
    menu += [case(what, accept, json.dumps(made).encode()) for what, made, accept in _manifests(ours)]
    for path, value in leaves(told):
        for other in of_another_type(value):
            if not (isinstance(other, list | str) and not other):
                menu.append(
                    recording(f"{shown(path)} is {other!r}", False, json.dumps(put(told, path, other)).encode())
                )
        menu.append(recording(f"without {shown(path)}", None, json.dumps(without(told, path)).encode()))
    for text in BROKEN:
        menu.append(case(f"{text[:9]!r}", False, text.encode()))
        menu.append(recording(f"{text[:9]!r}", None if text == "{}" else False, text.encode()))
    data, other = json.dumps(ours).encode(), json.dumps(told).encode()
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        *damaged(data, case, longer=None),
        *damaged(other, recording, longer=None),
    )


def _manifests(ours: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    for key in ("suite", "protocol", "chunks", "cases", "format", "spec"):
        yield f"without {key}", without(ours, (key,)), None if key == "spec" else False
        for other in (None, "x", 3.5, -1, 0, [], {}, True, 10**9):
            yield f"{key} is {other!r}", put(ours, (key,), other), None if (key, other) == ("spec", {}) else False
    for key in ("seed", "path"):
        yield f"a case without {key}", without(ours, ("cases", 1, key)), False
        for other in (None, "x", 3.5, -1, [], {}, True, 10**30, "../.."):
            yield f"a case's {key} is {other!r}", put(ours, ("cases", 1, key), other), False
    for other in (None, 3, [], "x"):
        yield f"a case is {other!r}", put(ours, ("cases", 1), other), False
    for path, value in leaves(ours["spec"], ("spec",)):
        for other in of_another_type(value):
            if not (isinstance(other, list | str) and not other):
                yield f"{shown(path)} is {other!r}", put(ours, path, other), False
    for key, other in (("width", 128), ("fps", 12), ("fov_deg", 60.0), ("chunk_latents", 2)):
        yield f"spec.{key} is {other}", put(ours, ("spec", key), other), False
    yield "spec.maze is unknown", put(ours, ("spec", "maze"), "nowhere"), False
    yield "the same case twice", put(ours, ("cases", 1), ours["cases"][0]), False
    yield "a case of many frames", put(ours, ("cases", 1, "num_frames"), 10**9), None
    yield "something beside", {**ours, "notes": "x"}, True


def report(folder: Path) -> st.SearchStrategy[Case]:
    """Reports of suites, as ``eval compare`` reads them."""
    figure = {"mean": 20.5, "ci95": [19.0, 22.0], "n": 8}
    ours = {
        "format": 1,
        "suite": "revisit",
        "protocol": "revisit-v1",
        "world": {"name": "maze", "sha256": "abc"},
        "seeds": [1, 2, 3],
        "arms": {"worldplay": {"psnr": figure, "ssim": figure}, "none": {"psnr": figure}},
        "differences": {},
        "timing": {"frames_per_s": 12.0},
        "skipped": {},
    }
    good = folder / "good.json"
    good.write_text(json.dumps(ours))

    def case(what: str, accept: bool | None, text: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "report.json").write_bytes(text)
            compare(scratch, good)
            compare(good, scratch / "report.json")

        return Case(what, accept, act, names="scratch" if accept is False else "")

    menu = [case("as it is", True, json.dumps(ours).encode())]
    menu += [case(what, accept, json.dumps(made).encode()) for what, made, accept in _reports(ours)]
    menu += [case(f"{text[:9]!r}", False, text.encode()) for text in BROKEN]
    data = json.dumps(ours).encode()
    return st.one_of(
        st.sampled_from(menu),
        *damaged(data, case, longer=None),
    )


def _reports(ours: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    for key in ("suite", "protocol", "arms", "seeds"):
        yield f"without {key}", without(ours, (key,)), False
        for other in (None, 3, "x", True, [3], ["x"], {"a": 3}, {"a": {"b": 3}}):
            same = key == "seeds" and other == [3]
            yield f"{key} is {other!r}", put(ours, (key,), other), bool(same)
    at = ("arms", "worldplay", "psnr")
    for other in (None, 3, "x", [], {}, True):
        yield f"an arm is {other!r}", put(ours, at[:2], other), other == {}
        yield f"a metric is {other!r}", put(ours, at, other), False
    for key in ("mean", "ci95", "n"):
        yield f"without {key}", without(ours, (*at, key)), False
        for other in (
            None,
            "x",
            True,
            [],
            {},
            [1.0],
            [1.0, "x"],
            [2.0, 1.0, 3.0],
            float("nan"),
            float("inf"),
            [float("nan")] * 2,
            -1,
            10**400,
        ):
            fine = key == "mean" and other == -1
            yield f"{key} is {str(other)[:20]}", put(ours, (*at, key), other), bool(fine)
    yield "format 99", put(ours, ("format",), 99), False
    for other in ("x", None, [], 1.5):
        yield f"format {other!r}", put(ours, ("format",), other), False
    yield "another suite", put(ours, ("suite",), "drift"), False
    yield "something beside", {**ours, "notes": "x"}, True
    yield "no timing", without(ours, ("timing",)), True
