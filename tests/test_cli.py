import subprocess
import sys
from pathlib import Path

import pytest

import worldenv
from worldenv import cli
from worldenv.cli.config import split_config
from worldenv.eval.suites.composite import composite


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["worldenv", *arguments])
    cli.main()


def test_config_file_is_taken_out_of_the_flags() -> None:
    assert split_config(["--a", "1", "--config", "x.toml", "--b"]) == (Path("x.toml"), ["--a", "1", "--b"])
    assert split_config(["--config=y.toml"]) == (Path("y.toml"), [])
    assert split_config(["--a"]) == (None, ["--a"])


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)
    run(monkeypatch, "--version")
    assert capsys.readouterr().out.strip() == worldenv.__version__


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, command, "--help")
    assert stop.value.code in (0, None)
    assert "usage" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["juggle"], "unknown command 'juggle'"),
        (["info", "atlantis"], "worldenv info: unknown world 'atlantis'"),
        (["train", "dream", "--out", "x"], "unknown stage 'dream'"),
        (["train", "vae", "--config", "gone.toml", "--out", "x"], r"gone\.toml: no such file"),
        (["train", "vae", "--data", "gone", "--out", "x"], "no shards"),
        (["record", "--env", "no/Such-v0", "--out", "x"], "unknown environment"),
        (["rollout", "--pose", "fly-3", "--out", "x.mp4"], "pose segment 'fly-3'"),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as stop:
        run(monkeypatch, *arguments)
    assert "Traceback" not in str(stop.value.code)


def test_flags_override_the_config_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('name = "fromfile"\nmax_clips = 7\n[optim]\nsteps = 5\nbatch = 3\n')
    import worldenv.training.stages.registry as stages

    called = {}
    monkeypatch.setattr(
        stages, "train", lambda stage, config, out, **more: called.update(stage=stage, config=config, out=out, **more)
    )
    run(
        monkeypatch,
        "train",
        "vae",
        "--config",
        str(tmp_path / "c.toml"),
        "--out",
        "o",
        "--optim.steps",
        "9",
        "--name",
        "flag",
    )
    config = called["config"]
    assert (config.name, config.max_clips, config.optim.steps, config.optim.batch) == ("flag", 7, 9, 3)
    assert called["evaluate"] is None
    run(monkeypatch, "train", "teacher", "--init", "w", "--out", "o", "--optim.patience", "5")
    assert called["evaluate"].func is composite
    assert called["evaluate"].keywords == {"parent": Path("w")}


@pytest.mark.parametrize(("name", "said"), [("eval", "interrupted; the same command goes on"), ("demo", "interrupted")])
def test_an_interrupted_command_says_whether_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    def interrupt(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, name, interrupt)
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, name)
    assert left.value.code == 130
    assert capsys.readouterr().err == f"\nworldenv {name}: {said}\n"


def test_the_installed_command_starts_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['worldenv', '--help']\n"
        "from worldenv.cli import main; main(); assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert result.returncode == 0, result.stderr
