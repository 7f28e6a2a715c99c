"""File events as a wake-up, no more: the truth is a scan. The only module that uses watchdog.

Events are lost when a queue overflows and are absent for what was there before the start, so a caller scans when it
starts and after every `wait`, whatever that returned. One watcher on one root for a whole org: 115 of them use up the
machine's inotify instances.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Watcher:
    """Watches `root` and everything below it from the moment it is made. `is_polling` when the kernel has no watches
    left or `root` is missing: `wait` then sleeps its time out."""

    def __init__(self, root: Path) -> None:
        self._changed = threading.Event()
        self._places: set[str] = set()
        self._observer: Any = _observe(root, self._note)

    @property
    def is_polling(self) -> bool:
        return self._observer is None

    def wait(self, timeout_s: float) -> bool:
        """True as soon as something was created, moved, modified or deleted since the last call; False after `timeout_s`."""
        has_changed = self._changed.wait(timeout_s)
        self._changed.clear()
        return has_changed

    def places(self) -> set[str]:
        """What lies directly below the root and changed, or has something in it that did, since the last call."""
        found = set()
        with contextlib.suppress(KeyError):
            while True:  # one by one out of the same set: a name that is added meanwhile stays for the next call
                found.add(self._places.pop())
        return found

    def _note(self, place: str) -> None:
        self._places.add(place)
        self._changed.set()

    def close(self) -> None:
        """Stop watching, and end a `wait` in another thread. Closing twice is fine."""
        self._changed.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
            self._observer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _observe(root: Path, note: Callable[[str], None]) -> Any:
    """A running observer that notes each change's place, or None where the machine can give none."""
    from watchdog import events
    from watchdog.observers import Observer

    # An emitter that is being stopped complains of a last event, and one whose folder was made anew of its callback,
    # both on stderr, which is somebody's pane.
    warnings.filterwarnings("ignore", module=r"watchdog\.")
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    logging.getLogger("fsevents").setLevel(logging.CRITICAL)

    # A scan opens and closes files: reacting to that would wake it for ever, and to be told of it costs more than the scan.
    kinds: list[type[events.FileSystemEvent]] = [events.FileCreatedEvent, events.DirCreatedEvent]
    kinds += [events.FileMovedEvent, events.DirMovedEvent, events.FileModifiedEvent]
    kinds += [events.FileDeletedEvent, events.DirDeletedEvent]

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, event: events.FileSystemEvent) -> None:
            if event.event_type in ("created", "moved", "modified", "deleted"):
                path = os.fsdecode(event.dest_path or event.src_path)
                note(path[start:].partition("/")[0])

    start = len(str(root)) + 1

    observer = Observer()
    try:
        observer.schedule(Handler(), str(root), recursive=True, event_filter=kinds)
        observer.start()
    except OSError:  # no inotify instance or watch left, or no such folder
        return None
    return observer
