import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from worldenv.base import files
from worldenv.base.checkpoint import save_tensors
from worldenv.base.files import check_folder, check_place, file_sha256, replacing, save_arrays, save_text


def test_text_takes_the_place_of_the_old_only_when_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "x.toml"
    save_text(path, "name = 'é'\n")
    assert path.read_bytes() == "name = 'é'\n".encode()
    write = Path.write_text

    def killed(self: Path, text: str, **options: Any) -> None:
        write(self, text[:4], **options)
        raise SystemExit

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(SystemExit):
        save_text(path, "name = 'other'\n")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "name = 'é'\n"


def test_a_full_disk_is_named_and_leaves_the_old_file_whole(tmp_path: Path, full_disk: Any) -> None:
    path = tmp_path / "x.txt"
    save_text(path, "old")
    with full_disk(1000), pytest.raises(OSError, match=r"x\.txt: could not be written .*; is the disk full\?") as error:
        save_text(path, "x" * 2000)
    assert "\n" not in str(error.value)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def test_whatever_goes_wrong_leaves_no_part(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "x") as partial:
            partial.write_text("half")
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is there after a power cut has its contents."""
    done: list[str] = []

    def sync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def rename(source: Path, target: Path) -> None:
        done.append(f"rename {source.name} {target.name}")
        source.rename(target)

    monkeypatch.setattr(files.os, "fsync", sync)
    monkeypatch.setattr(files.os, "replace", rename)
    save_text(tmp_path / "x.txt", "x")
    own = f"partial-{os.uname().nodename}-{threading.get_native_id()}-x.txt"
    assert done == [f"sync {own}", f"rename {own} x.txt", f"sync {tmp_path.name}"]


def test_pipes_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    save_tensors(pipe, {"a": torch.arange(3)})
    assert load(os.read(reader, 1000))["a"].tolist() == [0, 1, 2]
    os.close(reader)
    assert pipe.is_fifo()


def test_arrays_survive(tmp_path: Path) -> None:
    arrays = {"a/b": np.arange(6).reshape(2, 3), "c": np.array("x")}
    for compressed in (False, True):
        save_arrays(tmp_path / "x.npz", arrays, compressed=compressed)
        read = np.load(tmp_path / "x.npz")
        assert all((read[name] == arrays[name]).all() for name in arrays)


def test_arrays_are_where_they_were_asked_for(tmp_path: Path) -> None:
    save_arrays(tmp_path / "of no suffix", {"a": np.arange(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["of no suffix"]


@pytest.mark.parametrize("name", ["", "file/x", "x" * 300, "x/" * 3000, "a\0b", "a\ud800", "loop/x"])
def test_where_nothing_can_be_written_is_known_before(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="cannot be written"):
        check_place(tmp_path / name)
    if name:
        with pytest.raises(OSError, match="no folder to write to"):
            check_folder(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_where_something_can_be_written_nothing_is_said_or_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "deep" / "down" / "a\nb", Path("/dev/null")):
        check_place(path)
    for path in (tmp_path, tmp_path / "deep" / "down"):
        check_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OSError, match="file: no folder to write to"):
        check_folder(tmp_path / "file")


def test_hashes_depend_on_names_and_contents_not_on_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = file_sha256([a, b])
    assert before == file_sha256([b, a])
    b.write_text("3")
    assert file_sha256([a, b]) != before


def test_two_that_write_one_file_do_not_meet_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with replacing(path) as mine:
        mine.write_text("mine")
        other = threading.Thread(target=save_text, args=(path, "other"))
        other.start()
        other.join()
        assert path.read_text() == "other"
    assert path.read_text() == "mine"
    left = tmp_path / f"partial-{os.uname().nodename}-{2**22 + 1}-x.txt"  # more than the system gives numbers
    left.write_text("of a thread that is no more")
    save_text(path, "again")
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
