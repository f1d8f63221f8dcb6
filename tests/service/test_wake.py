"""A ring is never lost, whoever rings, and ringing never blocks."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from modelwarden.service.wake import Wake

FOREVER = 60.0
"""Longer than a test may take: a wait of this length that ends was rung for."""


@pytest.fixture
def wake() -> Iterator[Wake]:
    wake = Wake()
    yield wake
    wake.close()


def test_ring_before_the_wait_is_not_lost(wake: Wake) -> None:
    """What happened while the main loop was at work ends its next wait at once."""
    began = time.monotonic()
    wake.ring()
    wake.wait(FOREVER)
    assert time.monotonic() - began < FOREVER


def test_many_rings_are_one(wake: Wake) -> None:
    """However often it rang, one wait takes it all: the next one waits."""
    for _ in range(10):
        wake.ring()
    wake.wait(FOREVER)
    began = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_wait_of_no_time_returns(wake: Wake, seconds: float) -> None:
    """A moment that is past already is no wait, and no error."""
    wake.wait(seconds)


def test_ringing_without_end_does_not_block(wake: Wake) -> None:
    """A pipe full of rings takes no more, and the one who rings goes on: watchdog's threads are never held up."""
    for _ in range(70_000):  # a pipe holds 65,536
        wake.ring()
    wake.wait(FOREVER)
    wake.wait(0.0)


def test_ring_of_a_thread_ends_the_wait_under_way(wake: Wake) -> None:
    """Events come on other threads while the main loop sleeps; each one is heard."""
    heard = 0
    answered = threading.Semaphore(0)

    def ring() -> None:
        for _ in range(200):
            wake.ring()
            answered.acquire()

    thread = threading.Thread(target=ring)
    thread.start()
    for _ in range(200):
        wake.wait(FOREVER)
        heard += 1
        answered.release()
    thread.join()
    assert heard == 200


def test_rings_of_many_threads_lose_no_work(wake: Wake) -> None:
    """Work that is put down before each ring is all found by waits that end: none is left without one."""
    work: list[int] = []

    def put_down_and_ring() -> None:
        for _ in range(500):
            work.append(1)
            wake.ring()

    threads = [threading.Thread(target=put_down_and_ring) for _ in range(4)]
    for thread in threads:
        thread.start()
    done = 0
    while done < 2_000:
        wake.wait(FOREVER)
        done = len(work)
    for thread in threads:
        thread.join()


def test_ring_of_a_signal_handler_ends_the_wait(wake: Wake) -> None:
    """SIGTERM during the sleep is acted on at once, also where the handler runs on the thread that sleeps."""
    before = signal.signal(signal.SIGUSR1, lambda *_: wake.ring())
    try:
        for delay in (0.0, 0.02):
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            wake.wait(FOREVER)
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ring_of_a_signal_handler_in_the_midst_of_a_ring_does_not_deadlock(wake: Wake) -> None:
    """A handler may interrupt a ring or a wait anywhere: no lock is taken that it could wait for."""
    before = signal.signal(signal.SIGALRM, lambda *_: wake.ring())
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for _ in range(20_000):
            wake.ring()
            wake.wait(0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_closed_bell_gives_its_descriptors_back() -> None:
    """A bell that is closed leaves nothing open."""
    before = len(os.listdir("/proc/self/fd"))
    wake = Wake()
    wake.ring()
    wake.close()
    assert len(os.listdir("/proc/self/fd")) == before
