import pytest

from worldenv.geometry.action import ROTATIONS, TRANSLATIONS, keys_to_label
from worldenv.geometry.pose_string import parse_pose_string


def names(text: str) -> list[tuple[str, str]]:
    return [(TRANSLATIONS[t], ROTATIONS[r]) for t, r in parse_pose_string(text).tolist()]


def test_worldplays_example() -> None:
    assert names("w-3, right-1") == [("forward", "none")] * 3 + [("none", "right")]


def test_single_keys_have_worldplays_labels() -> None:
    text = "w-1,s-1,d-1,a-1,right-1,left-1,up-1,down-1"
    assert keys_to_label(parse_pose_string(text)).tolist() == [9, 18, 27, 36, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("w+right-2", [("forward", "right")] * 2),
        ("w+d-1", [("forward+right", "none")]),
        ("s+a+left+down-1", [("back+left", "left+down")]),
        ("right+w-1", [("forward", "right")]),
        (" w-1 ,, a-1, ", [("forward", "none"), ("left", "none")]),
    ],
)
def test_compound_segments(text: str, expected: list[tuple[str, str]]) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    "segment", ["w", "w-", "w-0", "w-x", "-3", "q-2", "w+q-1", "w+-1", "right-0.5", "w+w-1", "w--2"]
)
def test_bad_segments_are_named(segment: str) -> None:
    with pytest.raises(ValueError, match="pose segment") as error:
        parse_pose_string(f"w-1, {segment}")
    assert repr(segment) in str(error.value)


@pytest.mark.parametrize("segment", ["w+s-1", "a+d-2", "left+right-1", "up+down-3", "w+s+right-1"])
def test_keys_that_cancel_are_refused(segment: str) -> None:
    with pytest.raises(ValueError, match="pose segment"):
        parse_pose_string(segment)


@pytest.mark.parametrize("text", ["", "  ", ",,"])
def test_an_empty_string_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        parse_pose_string(text)
