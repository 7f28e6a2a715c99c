"""How much one sender may write: so many letters a minute and an hour, so many unread in a box. Against loops, not against malice.

What was sent is a ring of moments beside the seat, as many as an hour allows: it never grows, and a killed sender has at
most counted a letter that it did not send.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from datetime import UTC, datetime

from org import files
from org.errors import Busy
from org.failpoint import failpoint
from org.home import Home
from org.team import boxes

# A chief hands a task to each of 64 seats at once; ten a minute for an hour is no conversation any more.
PER_MINUTE = 100
PER_HOUR = 600
MAX_UNREAD = 1000  # in one box; 64 MB at the most
LOCK_S = 5.0
_RING = struct.Struct(f"<{PER_HOUR}q")  # Unix milliseconds, in no order; 0 is free


def take(home: Home, sender: str, now: float) -> None:
    """Count one letter of `sender`; now: Unix seconds. Raises Busy, which says when to go on, when it has written too many."""
    with files.locked(home.sent(sender), limit_s=LOCK_S) as ring:
        data = os.pread(ring, _RING.size, 0).ljust(_RING.size, b"\0")
        sent = [stamp / 1000 for stamp in _RING.unpack(data)]
        if (since := free_at(sent, now)) is not None:
            moment, span, most = since
            raise Busy(
                f"{sender} has sent {most} letters in the last {span}; go on at "
                f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} UTC (in {moment - now:.0f} s), and put more into one letter"
            )
        slot = min(range(len(sent)), key=lambda index: sent[index] if sent[index] <= now else 0.0)
        os.pwrite(ring, struct.pack("<q", int(now * 1000)), slot * 8)
    failpoint("mail.counted")


def free_at(sent: Sequence[float], now: float) -> tuple[float, str, int] | None:
    """When the next letter may go out, which span is full, and how many it takes; None: now. Pure. sent: Unix seconds in
    any order; a moment to come is of another clock and counts for nothing."""
    for span_s, span, most in ((3600.0, "hour", PER_HOUR), (60.0, "minute", PER_MINUTE)):
        within = sorted(stamp for stamp in sent if now - span_s < stamp <= now)
        if len(within) >= most:
            return within[-most] + span_s, span, most
    return None


def check_room(home: Home, to: Sequence[str]) -> None:
    """Raises Busy when one of these boxes holds more unread letters than anybody will read."""
    for box in to:
        count = len(boxes.names(home.mailbox(box) / "new"))
        if count >= MAX_UNREAD:
            raise Busy(
                f"the box of {box} is full ({count:,} unread letters), and nothing was sent; "
                "`org status` shows whether it reads, and others are reached by name"
            )
