from pathlib import Path

import numpy as np
import pytest

from worldenv.base.ply import save_ply


def test_a_table_is_written_as_its_header_says(tmp_path: Path) -> None:
    table = np.array([(1.5, 2, -3), (0.25, 255, 4)], dtype=[("x", ">f4"), ("red", "u1"), ("n", "i4")])
    save_ply(tmp_path / "a.ply", table, comments=("y is down",))
    head, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert head.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "comment y is down",
        "element vertex 2",
        "property float x",
        "property uchar red",
        "property int n",
    ]
    assert body == b"\0\0\xc0\x3f\x02\xfd\xff\xff\xff" + b"\0\0\x80\x3e\xff\x04\0\0\0"


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_ply(tmp_path / "file" / "a.ply", np.zeros(1, [("x", "f4")]))
