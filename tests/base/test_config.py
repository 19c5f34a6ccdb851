import math
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldenv.base.config import (
    check_counts,
    check_numbers,
    difference,
    dump_toml,
    from_dict,
    load_toml,
    read_layers,
    to_dict,
)
from worldenv.data.record import RecordConfig
from worldenv.geometry.occupancy import WallsConfig
from worldenv.making.config import MakeConfig
from worldenv.models.heads import EventConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.motion import PoseTrainConfig
from worldenv.world.config import WorldConfig

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 3
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(self, natural=("size",))


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float = 0.5
    on: bool = False
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, float] = (1, 2.0)
    where: Path | None = None
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Loose:
    options: dict[str, int | float | str] | None = None


def test_what_may_be_of_several_kinds_is_taken_as_it_is() -> None:
    options: dict[str, object] = {"variant": "in_view", "count": 3, "scale": 0.5}
    found = from_dict(Loose, {"options": options})
    assert found.options == options
    assert isinstance(found.options["count"], int)
    assert from_dict(Loose, {"options": None}).options is None
    for wrong in ([1], None, True):
        with pytest.raises(ValueError, match=r"options\.variant: expected int or float or str, got"):
            from_dict(Loose, {"options": {"variant": wrong}})


def test_nested_values_are_converted() -> None:
    values = {"rate": 1, "pair": [3, 4], "where": "x/y", "inner": {"names": ["p", "q"]}}
    wanted = Outer(rate=1.0, pair=(3, 4.0), where=Path("x/y"), inner=Inner(names=("p", "q")))
    made = from_dict(Outer, values)
    assert made == wanted
    assert isinstance(made.rate, float)
    assert from_dict(Outer, {}) == Outer()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1.0}, r"unknown key 'rat'; known keys are inner, kind, on, pair, rate, where"),
        ({"inner": {"sise": 1}}, r"config\.inner: unknown key 'sise'; known keys are names, size"),
        ({"rate": "fast"}, r"config\.rate: expected float, got 'fast'"),
        ({"rate": True}, r"config\.rate"),
        ({"inner": {"size": 1.5}}, r"config\.inner\.size: expected int"),
        ({"inner": {"size": True}}, r"config\.inner\.size"),
        ({"inner": 3}, r"config\.inner: expected a table"),
        ({"on": 1}, r"config\.on: expected bool"),
        ({"kind": "c"}, r"config\.kind.*'a', 'b'"),
        ({"pair": [1]}, r"config\.pair: expected 2 values"),
        ({"pair": 1}, r"config\.pair: expected a list"),
        ({"inner": {"names": [1]}}, r"config\.inner\.names: expected str"),
        ({"rate": float("nan")}, r"config\.rate: expected a finite number, got nan"),
        ({"pair": [1, float("-inf")]}, r"config\.pair: expected a finite number, got -inf"),
        ({"inner": {"size": -1}}, r"config\.inner: size=-1 must be 0 or more"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, values)


@pytest.mark.parametrize(
    ("kind", "good", "wrong", "says"),
    [
        ("counts", (1, 7), (0, -1, math.inf, math.nan), "1 or more"),
        ("positive", (0.1, 3), (0, -0.1, math.inf, math.nan), "positive"),
        ("natural", (0, 0.5), (-1, math.inf, math.nan), "0 or more"),
    ],
)
def test_numbers_are_what_they_must_be(kind: str, good: tuple[float, ...], wrong: tuple[float, ...], says: str) -> None:
    for value in (*good, good):
        check_numbers(SimpleNamespace(size=value), **{kind: ("size",)})
    for value in (*wrong, (*good, wrong[0])):
        with pytest.raises(ValueError, match=f"size=.* must be {says}"):
            check_numbers(SimpleNamespace(size=value), **{kind: ("size",)})


@pytest.mark.parametrize("config", [WorldConfig(), TrainConfig(), RecordConfig()])
def test_configurations_survive_toml(config: object) -> None:
    assert from_dict(type(config), tomllib.loads(dump_toml(to_dict(config)))) == config


def test_changed_values_survive_toml(tmp_path: Path) -> None:
    config = WorldConfig(name='a "b" \\ c\nd', spec=replace(WorldConfig().spec, fov_deg=75.25, chunk_latents=1))
    (tmp_path / "w.toml").write_text(dump_toml(to_dict(config)))
    assert load_toml(WorldConfig, tmp_path / "w.toml") == config


@given(st.text(max_size=12), st.floats(allow_nan=False), st.integers(-(2**60), 2**60))
def test_any_value_survives_toml(text: str, real: float, number: int) -> None:
    values = {"text": text, "real": real, "number": number, "list": [text, text], "table": {"yes": True, "no": False}}
    name = text.replace(".", "")  # a dot in a name makes a table of its own
    values |= {f"/{name}": {"deep": {f"'{name}": [{f" {name}": 1}]}}}
    assert tomllib.loads(dump_toml(values)) == values


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.toml: no such file"):
        load_toml(Outer, tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("rate = = 1")
    with pytest.raises(ValueError, match=r"bad\.toml: not valid TOML"):
        load_toml(Outer, tmp_path / "bad.toml")
    (tmp_path / "typo.toml").write_text("rat = 1")
    with pytest.raises(ValueError, match=r"typo\.toml: unknown key 'rat'"):
        load_toml(Outer, tmp_path / "typo.toml")


def test_a_file_may_extend_another_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "first.toml").write_text('name = "first"\nrate = 0.5\n[inner]\nsize = 3\n')
    (tmp_path / "below" / "second.toml").write_text('extends = "first.toml"\nname = "second"\n')
    (tmp_path / "third.toml").write_text('extends = "below/second.toml"\n[inner]\nnames = ["a"]\n')
    assert read_layers(tmp_path / "third.toml") == {"name": "second", "rate": 0.5, "inner": {"size": 3, "names": ["a"]}}


def test_files_that_extend_nothing_or_themselves_are_named(tmp_path: Path) -> None:
    (tmp_path / "lost.toml").write_text('extends = "gone.toml"\n')
    with pytest.raises(ValueError, match=r"lost\.toml: extends .*gone\.toml, and there is no such file"):
        read_layers(tmp_path / "lost.toml")
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    (tmp_path / "c.toml").write_text('extends = "a.toml"\n')
    for path in ("a.toml", "c.toml"):
        with pytest.raises(ValueError, match=r"b\.toml: extends .*a\.toml, which extends it"):
            read_layers(tmp_path / path)


TABLES = ("ablations", "loops")
"""Folders of what ``ablations.table`` and ``worldenv_agents.loop`` read; the others hold stages and recordings."""
CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.toml")) if path.parent.name not in TABLES]


KINDS = {"pose": PoseTrainConfig}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_repositorys_configurations_load(path: Path) -> None:
    recording = path.stem.startswith(("record", "heldout"))
    kind = RecordConfig if recording else KINDS.get(path.stem, TrainConfig)
    assert load_toml(kind, path) != kind()


def test_what_has_no_default_must_be_there() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Named:
        name: str
        rate: float = 1.0

    assert from_dict(Named, {"name": "a"}) == Named(name="a")
    with pytest.raises(ValueError, match="config: key 'name' is missing; known keys are name, rate"):
        from_dict(Named, {"rate": 2.0})


def test_a_run_goes_on_with_settings_that_came_after_it() -> None:
    before = {"stage": "memory", "config": {"optim": {"lr": 1e-3}, "init": None}}
    assert difference(before, {**before, "config": {**before["config"], "teacher": None}}) is None  # type: ignore[dict-item]
    assert difference(before, {"stage": "memory", "config": {"optim": {"lr": 2e-3}, "init": None}}) == "config.optim.lr"
    assert difference(before, {"stage": "causal", "config": before["config"]}) == "stage"
    assert difference(before, {"stage": "memory", "config": {"optim": {"lr": 1e-3}, "init": "runs/a"}}) == "config.init"


def test_values_of_tables_by_name_are_checked_too() -> None:
    @dataclass(frozen=True)
    class Part:
        size: int = 1

    @dataclass(frozen=True)
    class Whole:
        parts: dict[str, Part] = field(default_factory=dict)

    whole = from_dict(Whole, {"parts": {"a": {"size": 2}, "b": {}}})
    assert whole.parts == {"a": Part(2), "b": Part(1)}
    for wrong, said in (({"a": {"sise": 2}}, r"parts\.a: unknown key 'sise'"), ([1], "parts: expected a table")):
        with pytest.raises(ValueError, match=said):
            from_dict(Whole, {"parts": wrong})


def test_numbers_that_may_lie_below_0_are_marked_where_they_stand() -> None:
    assert from_dict(EventConfig, {"shift": -1.5}).shift == -1.5
    assert from_dict(WallsConfig, {"height": [-1.5, 0.2]}).height == (-1.5, 0.2)
    with pytest.raises(ValueError, match=r"config\.num_starts: expected 0 or more, got -1"):
        from_dict(TrainConfig, {"num_starts": -1})


def test_whole_numbers_have_63_bits() -> None:
    for name, value in (("batch", 2**63), ("frames", 10**30), ("seed", 2**63)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            MakeConfig(**{name: value})
    with pytest.raises(ValueError, match="envs="):
        check_counts(envs=(1, 2**63))
    check_counts(envs=(1, 2**63 - 1))
