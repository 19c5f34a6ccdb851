import os
import signal
import threading

import pytest

from worldenv.base.interrupts import Interrupted, ending, finishing, status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_what_is_going_on(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stopped, ending():
        signal.raise_signal(number)
    assert status(stopped.value) == 128 + number
    assert signal.getsignal(number) is before
    assert status(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_wait_for_the_end_of_a_step(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with ending(), finishing() as came:
        assert came() == 0
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert came() == number
    assert status(Interrupted(number)) == 128 + number
    assert capfd.readouterr().err.count("finishing this step, then saving") == 1


def test_threads_change_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        with ending(), finishing() as came:
            assert came() == 0
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
