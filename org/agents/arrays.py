"""numpy on one thread. The matrices of this package are small; on a busy machine threads that wait for one another's core made
the inverse of a hundred rows take 70 ms and not one."""

from __future__ import annotations

import os
from typing import Any

THREADS = "OPENBLAS_NUM_THREADS"  # read once, when numpy is loaded


def numpy() -> Any:
    """The module. What this process starts inherits nothing of it."""
    is_set = THREADS in os.environ
    os.environ.setdefault(THREADS, "1")
    try:
        import numpy as found
    finally:
        if not is_set:
            del os.environ[THREADS]
    return found
