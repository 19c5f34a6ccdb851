import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worldenv.base.lock import NAME, in_use

HOLD = """
import sys, time
from pathlib import Path
from worldenv.base.lock import in_use

with in_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_second_run_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with in_use(out):
        said = json.loads((out / NAME).read_text())
        assert said["pid"] == os.getpid()
        with pytest.raises(ValueError, match=rf"out is in use by process {os.getpid()} \(.*\), since 20"), in_use(out):
            pass
    assert not out.exists(), "it was made for nothing"
    with in_use(out):
        (out / "kept").touch()
    assert [path.name for path in out.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["file", "file/x", "x" * 300, "a\0b"])
def test_what_can_be_no_folder_is_told_in_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"no folder to write to \(.*\); pass another --out") as error,
        in_use(tmp_path / name),
    ):
        pass
    assert "\n" not in str(error.value)


def test_what_a_killed_run_held_is_taken_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"in use by process {other.pid} "), in_use(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / NAME).exists()
    with in_use(tmp_path):
        pass
    assert f"process {other.pid} (-c {tmp_path}), since" in capfd.readouterr().err.replace("\n", "")
    assert not list(tmp_path.iterdir())
