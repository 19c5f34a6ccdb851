"""Texts of somebody else."""

from pathlib import Path

import pytest

from worldenv.base.config import read_toml
from worldenv.base.documents import is_format, read_bytes, read_json, read_table


@pytest.mark.parametrize("found", [True, 1.0, "1", None, [1], 2])
def test_a_format_is_a_whole_number_and_nothing_that_equals_it(found: object) -> None:
    assert is_format(1, 1)
    assert not is_format(found, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 9000, "not JSON"),
        (b"\xff", "cannot be read"),
        (b"[]", "not a table"),
    ],
)
def test_what_is_no_table_is_refused_by_its_file(text: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=said) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_missing_files_and_endless_ones_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(ValueError, match="cannot be read"):
            read_json(path)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        read_bytes(Path("/dev/zero"), most=1000)
    with pytest.raises(ValueError, match="/dev/zero"):
        read_toml("/dev/zero")
