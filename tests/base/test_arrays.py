"""Arrays of somebody else."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from worldenv.base.arrays import read_npy, read_npz

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)


def packed(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames.npy", data)
    return file.getvalue()


def array(value: np.ndarray, **changes: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue().replace(b"(9, 8, 8, 3), }", changes.get("shape", b"(9, 8, 8, 3), }"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">i4", "<f8", "?"])
def test_arrays_are_read_as_they_were_written(dtype: str, order: str, tmp_path: Path) -> None:
    value = np.asarray(FRAMES.astype(dtype), order=order)  # type: ignore[call-overload]
    np.savez_compressed(tmp_path / "a.npz", frames=value)
    np.save(tmp_path / "a.npy", value)
    for read in (read_npz(tmp_path / "a.npz", "frames", most=10**6), read_npy(tmp_path / "a.npy", most=10**6)):
        np.testing.assert_array_equal(read, value)
        assert read.dtype.isnative
        assert read.dtype.kind == value.dtype.kind


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read as arrays"),
        (packed(array(FRAMES))[:-30], "BadZipFile"),
        (packed(b""), "cannot be read as arrays"),
        (packed(array(FRAMES, shape=b"(99999999999, 9), }")), "up to 10000 bytes are read"),
        (packed(array(FRAMES, shape=b"(9, 8, 8, 4), }")), "takes 2304 bytes, fewer are there"),
        (packed(array(FRAMES, shape=b"(-9, 8, 8, 3), }")), "numbers of up to"),
        (packed(array(np.array([None] * 3))), "object"),
        (packed(array(np.zeros(10**6, np.uint8))), "up to 10000 bytes are read"),
    ],
)
def test_what_is_no_array_or_too_large_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said) as error:
        read_npz(path, "frames", most=10_000)
    assert str(path) in str(error.value)
