import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import worldenv
from worldenv import cli
from worldenv.base.interrupts import Interrupted
from worldenv.cli import making, scoring
from worldenv.cli.tree import Command, Group
from worldenv.eval.suites.composite import composite


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["worldenv", *arguments])
    cli.main()


def leaves(group: Group, *words: str) -> list[tuple[str, ...]]:
    """List the words of every command."""
    nodes = [((*words, name), node) for name, node in group.commands.items()]
    return [leaf for path, node in nodes for leaf in (leaves(node, *path) if isinstance(node, Group) else [path])]


def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *words, "--help")
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


def test_help_lists_every_command_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.strip("│ •").split(maxsplit=1) for line in explain(monkeypatch, capsys).splitlines() if "•" in line]
    assert [name for name, _ in lines] == list(cli.TREE.commands)
    assert all(text.endswith(".") for _, text in lines)
    run(monkeypatch, "--version")
    assert capsys.readouterr().out.strip() == worldenv.__version__


def test_no_words_ask_for_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch)
    assert stop.value.code in (0, None)
    assert "verify-reference" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [words for words in leaves(cli.TREE) if words[0] != "train"] + [("train", "vae"), ("train", "pose")],
    ids=" ".join,
)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    shown = explain(monkeypatch, capsys, *words)
    assert shown.startswith(f"usage: worldenv {' '.join(words)} ")
    assert shown.count("--config") == (words[0] in ("record", "make", "train", "serve"))


def test_groups_list_what_they_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {name: node for name, node in cli.TREE.commands.items() if isinstance(node, Group)}
    assert set(groups) == {"train", "eval", "bench"}
    for name, group in groups.items():
        shown = explain(monkeypatch, capsys, name)
        assert all(f"• {word} " in shown for word in group.commands)


def test_the_tree_has_every_stage_and_suite() -> None:
    from worldenv.eval.suites.evaluate import SUITES
    from worldenv.training.stages.registry import STAGES

    assert set(making.STAGES) == set(STAGES)
    assert set(scoring.SUITES) == set(SUITES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["juggle"], "^worldenv: unknown command 'juggle'; choose one of demo, "),
        (["bench_data"], "did you mean 'bench-data'"),
        (["train", "memroy", "--out", "x"], "^worldenv train: unknown stage 'memroy'; .*; did you mean 'memory'"),
        (["eval", "drfit", "--out", "x"], "^worldenv eval: unknown suite 'drfit'; .*; did you mean 'drift'"),
        (["info", "atlantis"], "worldenv info: unknown world 'atlantis'"),
        (["train", "dream", "--out", "x"], "unknown stage 'dream'"),
        (["train", "vae", "--config", "gone.toml", "--out", "x"], r"gone\.toml: no such file"),
        (["train", "vae", "--config=odd.toml", "--out", "x"], r"odd\.toml: unknown key 'stpes'; known keys are "),
        (["train", "vae", "--data", "gone", "--out", "x"], "no shards"),
        (["record", "--env", "no/Such-v0", "--out", "x"], "unknown environment"),
        (["rollout", "--pose", "fly-3", "--out", "x.mp4"], "pose segment 'fly-3'"),
        (["record", "--env", "os:sep", "--out", "x"], "source str is called with RecordConfig, and cannot"),
        (["bench-data", "revisit", "--maze", "x", "--out", "x"], "choose one of classic, classic-objects, plain-"),
        (["bench", "engine", "--envs", "--out", "x"], r"envs=\(\) must be 1 or more"),
        (["bench", "hand", "--repeats", "0", "--out", "x"], "repeats=0 must be 1 or more"),
        (
            ["bench", "worldplay", "--size", "7", "7", "--out", "x"],
            r"size=\(7, 7\): height and width must be multiples",
        ),
        (["bench", "soak", "--minutes", "nan", "--out", "x"], "minutes=nan must be positive"),
        (["rollout", "--pose", "w-3", "--out", "x.txt"], r"x\.txt: a video's name ends in one of \.mp4"),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.toml").write_text("stpes = 3\n")
    with pytest.raises(SystemExit, match=message) as stop:
        run(monkeypatch, *arguments)
    assert "\n" not in str(stop.value.code)


def test_what_lies_where_a_command_is_run_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # an installed command has its own folder there, and not this one
    (tmp_path / "lies_here.py").write_text("")
    with pytest.raises(SystemExit, match="module 'lies_here' has no attribute 'Mine'"):
        run(monkeypatch, "record", "--env", "lies_here:Mine", "--out", "x")


def test_flags_override_the_config_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('name = "fromfile"\nmax_clips = 7\n[optim]\nsteps = 5\nbatch = 3\n')
    import worldenv.training.stages.registry as stages

    called = {}
    monkeypatch.setattr(
        stages, "train", lambda stage, config, out, **more: called.update(stage=stage, config=config, out=out, **more)
    )
    given = ["--config", str(tmp_path / "c.toml"), "--out", "o"]
    run(monkeypatch, "train", "vae", *given, "--optim.steps", "9", "--name", "flag")
    config = called["config"]
    assert called["stage"] == "vae"
    assert (config.name, config.max_clips, config.optim.steps, config.optim.batch) == ("flag", 7, 9, 3)
    assert called["evaluate"] is None
    run(monkeypatch, "train", "teacher", "--init", "w", "--out", "o", "--optim.patience", "5")
    assert called["evaluate"].func is composite
    assert called["evaluate"].keywords == {"parent": Path("w")}


def test_tables_of_signals_are_given_as_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from worldenv.training.stages import registry as stages

    called: dict[str, Any] = {}
    monkeypatch.setattr(stages, "train", lambda stage, config, out, **more: called.update(config=config))
    given = ["--spec.gives", "{}", "--spec.takes"]
    run(monkeypatch, "train", "vae", "--out", "o", *given, '{"push": {"shape": [3], "low": -1}}')
    (signal,) = called["config"].spec.takes.values()
    assert (signal.shape, signal.low, signal.dtype) == ((3,), -1.0, "float32")
    with pytest.raises(SystemExit):
        run(monkeypatch, "train", "vae", "--out", "o", *given, '{"push": {"shpe": [3]}}')
    assert "unknown key" in "".join(capsys.readouterr())


def test_a_mistaken_flag_is_no_other_commands_matter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("max_clips = 7\n")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "train", "vae", "--config", str(tmp_path / "c.toml"), "--out", "o", "--optim.stpes", "9")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "--optim.steps" in said
    assert "record" not in said


def test_bench_measures_the_engine_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from worldenv.bench import engine

    called = {}
    monkeypatch.setattr(engine, "bench_engine", lambda world, out, **more: called.update(world=world, out=out, **more))
    run(monkeypatch, "bench", "--out", "b.json", "--envs", "1", "16")
    assert (called["world"], called["out"], called["sizes"]) == ("maze", Path("b.json"), (1, 16))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("eval", "interrupted; the same command goes on"),
        ("train", "interrupted; the same command with --resume goes on"),
        ("demo", "interrupted"),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.TREE.commands, name, Command(interrupt))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, name)
    assert left.value.code == 130
    assert capsys.readouterr().err == f"\nworldenv {name}: {said}\n"


@pytest.mark.parametrize("words", ["--help", "train --help", "eval --help", "bench engine --help", "trian", "info -x"])
def test_help_and_slips_import_no_torch(words: str) -> None:
    code = (
        f"import sys; sys.argv = ['worldenv', *{words.split()}]\n"
        "from worldenv.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert result.stdout.splitlines()[-1] == "False", result.stderr


def test_what_fails_in_the_wake_of_an_interruption_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``shutil.rmtree`` interrupted between closing a folder and noting that it did closes it again."""

    def clean() -> None:
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            raise OSError(9, "Bad file descriptor")

    def swallowed() -> None:  # by code in C
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        raise ValueError("Invalid bounding box")

    for failing in (clean, swallowed):
        monkeypatch.setitem(cli.TREE.commands, "eval", Command(failing))  # type: ignore[arg-type]
        with pytest.raises(SystemExit) as left:
            run(monkeypatch, "eval")
        assert left.value.code == 128 + signal.SIGTERM
        assert capsys.readouterr().err == "\nworldenv eval: interrupted; the same command goes on\n"


def test_what_failed_before_says_nothing_of_later_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("broken")

    monkeypatch.setitem(cli.TREE.commands, "eval", Command(fail))  # type: ignore[arg-type]
    monkeypatch.setattr("worldenv.base.interrupts._came", [signal.SIGTERM])
    with pytest.raises(SystemExit, match="worldenv eval: broken"):
        run(monkeypatch, "eval")
