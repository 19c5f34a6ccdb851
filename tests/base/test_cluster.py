"""What is refused before Ray is asked, and without it."""

import socket
import sys

import pytest

from worldenv import __version__
from worldenv.base import cluster
from worldenv.base.cluster import cause_of, check_address, check_version, connect
from worldenv.base.workers import worker_pool


def test_an_address_that_nobody_answers_at_is_told_in_a_line() -> None:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ValueError, match=rf"^nobody answers at Ray address '{address}' .*`ray start --head`, or pass"):
        connect(address)
    for wrong in ("somewhere", "host:", ":6379", "host:0", "host:99999"):
        for ask in (connect, check_address):
            with pytest.raises(ValueError, match=f"^Ray address '{wrong}'; pass 'local', or HOST:PORT"):
                ask(wrong)
    with pytest.raises(ValueError, match=r"^nobody answers at Ray address 'xxx"):
        check_address(f"{'x' * 300}:1")
    check_address("")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'worldenv\[ray\]'"), worker_pool(1, ray="local"):
        pass


def test_another_version_is_refused() -> None:
    check_version(__version__)
    with pytest.raises(ValueError, match=rf"^the Ray cluster has worldenv 9.9, this program {__version__}; install"):
        check_version("9.9")


def test_what_ray_says_of_an_error_becomes_a_line() -> None:
    class Wrapped(Exception):
        cause = ValueError("inside")

    assert cause_of(Wrapped("a page")) is Wrapped.cause
    assert str(cause_of(RuntimeError("first\nsecond"))) == "a Ray worker died: first"
    assert cluster.LOCAL == "local"
