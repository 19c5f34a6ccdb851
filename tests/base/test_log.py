import json
from pathlib import Path

from worldenv.base.log import JsonlLog, git_revision, hardware, track


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
