"""Waiting for a letter: the folder's own events wake, a look at it is the truth. Reads and moves nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from org.home import Home
from org.team import boxes

RESCAN_S = 1.0  # an event can be lost; a look costs 0.05 ms
POLL_S = 0.03  # where the kernel has no watch left: 128 for each user by default, one a waiting reader

T = TypeVar("T")


@contextmanager
def awaited(home: Home, box: str, look: Callable[[], T], limit_s: float) -> Iterator[T]:
    """What `look` returns as soon as that is something, or once `limit_s` are over. What is done with it goes into the
    block: the watch is ended after it, which can take 15 ms. Watches the box from its root, since a rename out of a folder
    that is watched alone holds its event back for 0.3 s."""
    found = look()
    if found or limit_s <= 0:
        yield found
        return
    end = time.monotonic() + limit_s
    boxes.make(home.mailbox(box))
    from org.world.watch import Watcher  # costs as much as the whole command, so only who waits has it

    with Watcher(home.mailbox(box)) as watcher:
        while not (found := look()) and (left := end - time.monotonic()) > 0:
            watcher.wait(min(left, POLL_S if watcher.is_polling else RESCAN_S))
        yield found
