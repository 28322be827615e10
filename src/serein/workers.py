"""What a process does that works for another one."""

import multiprocessing
import os
import signal
from threading import Thread


def begin() -> None:
    """Leave Ctrl-C to the process that this one works for, and end when that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
