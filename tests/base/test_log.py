import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from worldenv.base import log as logs
from worldenv.base.log import JsonlLog, complain, git_revision, hardware, track


def test_records_are_appended_and_read_back(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "deep" / "log.jsonl")
    log.write({"step": 1, "loss": 0.123456789})
    log.write({"step": 2, "name": "x"})
    assert JsonlLog.read(tmp_path / "deep" / "log.jsonl") == [{"step": 1, "loss": 0.123457}, {"step": 2, "name": "x"}]


def test_resuming_drops_later_and_broken_records(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 2, 3)) + '{"step": 4, "lo')
    JsonlLog(path, resume_step=2).write({"step": 3, "again": True})
    assert JsonlLog.read(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]
    JsonlLog(path)
    assert JsonlLog.read(path) == []


def test_names_of_machine_and_revision() -> None:
    assert git_revision()
    assert "core" in hardware() or hardware()


def test_tracking_yields_every_item() -> None:
    assert list(track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]


def test_a_full_disk_is_named_and_leaves_whole_records(tmp_path: Path, full_disk: Any) -> None:
    log = JsonlLog(tmp_path / "log.jsonl")
    log.write({"step": 1})
    with full_disk(20), pytest.raises(OSError, match=r"log\.jsonl: could not be written .*; is the disk full\?"):
        log.write({"step": 2, "name": "x" * 50})
    log.write({"step": 3})
    assert JsonlLog.read(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 3}]


def test_a_broken_record_that_is_not_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"ste{"step": 2}\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 is no record"):
        JsonlLog.read(path)


def test_complaints_are_lost_on_a_full_disk_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that failed to say so left whoever had asked without an answer."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "console", Console(file=Full()))
    with pytest.raises(OSError, match="No space left"):
        logs.console.print("what is not suppressed")
    complain("Save failed: [Errno 28]")


def test_what_is_no_file_is_no_log(tmp_path: Path) -> None:
    assert JsonlLog.read(tmp_path / "none.jsonl") == []
    for name, target in (("folder", None), ("device", "/dev/zero")):
        (tmp_path / name).symlink_to(target) if target else (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"{name}: is a folder, pipe or device"):
            JsonlLog.read(tmp_path / name)
