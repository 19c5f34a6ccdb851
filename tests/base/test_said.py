"""What errors repeat is one line; names from outside are told from files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from worldenv.base import documents
from worldenv.base.documents import read_text
from worldenv.base.files import save_text
from worldenv.base.said import MOST_SAID, check_file, check_path, named, one_line


def test_what_is_named_is_one_line(tmp_path: Path) -> None:
    assert named("runs/straße") == "runs/straße"
    assert named("a\nb\x1b[2J\udcff") == ascii("a\nb\x1b[2J\udcff")
    assert len(named("x" * 5000)) == MOST_SAID + 3
    assert one_line(ValueError("a\n  b\x00")) == "a b\\x00"
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b", "a\nb", "a\ud800"])
def test_names_that_no_file_has_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        check_path(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2 * MOST_SAID


def test_a_name_of_two_lines_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a\nb").write_text("so")
    assert check_file(tmp_path / "a\nb").read_text() == "so"
    assert check_path(tmp_path / "nothing") == tmp_path / "nothing", "who reads it says what is missing"


def test_what_is_no_file_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "is a folder, pipe or device"), (".", "is a folder"), ("nothing", "no such file")):
        with pytest.raises(ValueError, match=words):
            check_file(tmp_path / name)


def test_a_name_that_is_no_text_is_printed_and_written(tmp_path: Path) -> None:
    code = "from worldenv.base.said import show_any_name; show_any_name(); print('wrote a\\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.returncode) == ("wrote a\\udcff\n", 0)
    save_text(tmp_path / "report.md", "of a\udcff\n")
    assert (tmp_path / "report.md").read_text() == "of a\\udcff\n"


def test_a_pipe_is_read_once_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("w") as file:
            for part in "so it is":
                time.sleep(0.02)
                file.write(part)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert read_text(tmp_path / "pipe") == "so it is"
    writer.join()
    monkeypatch.setattr(documents, "PATIENCE", 0.05)
    with pytest.raises(ValueError, match="a pipe to which nobody writes"):
        read_text(tmp_path / "pipe")
