"""Memory that a step used is kept for the next one, and memory of kernels is bounded.

glibc gives large blocks back to the system as soon as they are free, and the next step faults them
in again, page by page. A training that keeps them is faster and holds more memory at a time.
"""

import ctypes
import os
from functools import cache

MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Variables by which a user says the same; who sets one has chosen."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's ``malloc.h``."""
MAX_KEPT_BYTES = 2**30
"""Bytes that are kept: of one block, and unused at the end of the heap."""
OLD_GLIBC_MAX_BYTES = 2**25
"""What glibc before 2.35 takes at most for one block."""

ONEDNN_CACHE_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
"""How many kernels oneDNN keeps; it makes one for each shape that it meets."""
ONEDNN_CACHE_CAPACITY = "64"


def limit_onednn_cache() -> None:
    """Have oneDNN keep fewer kernels than its 1,024, which take up to 100 MiB.

    Windows of long recordings have many shapes that never come again. To be called before anything
    is computed; who sets the variable has chosen.
    """
    os.environ.setdefault(ONEDNN_CACHE_VARIABLE, ONEDNN_CACHE_CAPACITY)


@cache
def keep_freed_memory() -> bool:
    """Have this process keep what it frees, from now on.

    Returns:
        Whether it does: not where the user has chosen, nor where libc is not glibc.
    """
    if any(name in os.environ for name in MALLOC_VARIABLES) or not _is_glibc():
        return False
    settle = ctypes.CDLL(None).mallopt
    # Without the first, the second would make things worse: thresholds would no longer grow.
    return bool(
        (settle(M_MMAP_THRESHOLD, MAX_KEPT_BYTES) or settle(M_MMAP_THRESHOLD, OLD_GLIBC_MAX_BYTES))
        and settle(M_TRIM_THRESHOLD, MAX_KEPT_BYTES)
    )


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, OSError, ValueError):  # no such call, or no such name
        return False
