"""Delay the signals that end a run while a step must not be interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP until the block is done.

    A signal mask would not do: other threads take the signal while they are alive, and its handler
    runs in the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread alone
        return
    received: list[int] = []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    delayed = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
    for number in delayed:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in delayed.items():
            signal.signal(number, handler)
        for signal_number in received:
            signal.raise_signal(signal_number)
