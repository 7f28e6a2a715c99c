"""File events as a wake-up, no more: the truth is a scan. The only module that uses watchdog.

Events are lost when a queue overflows and are absent for what was there before the start, so a caller scans when it
starts and after every `wait`, whatever that returned. One watcher on one root for a whole org: 115 of them use up the
machine's inotify instances.
"""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Watcher:
    """Watches `root` and everything below it from the moment it is made. `is_polling` when the kernel has no watches
    left or `root` is missing: `wait` then sleeps its time out."""

    def __init__(self, root: Path) -> None:
        self._changed = threading.Event()
        self._observer: Any = _observe(root, self._changed)

    @property
    def is_polling(self) -> bool:
        return self._observer is None

    def wait(self, timeout_s: float) -> bool:
        """True as soon as something was created, moved, modified or deleted since the last call; False after `timeout_s`."""
        has_changed = self._changed.wait(timeout_s)
        self._changed.clear()
        return has_changed

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


def _observe(root: Path, changed: threading.Event) -> Any:
    """A running observer that sets `changed`, or None where the machine can give none."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    # An emitter that is being stopped complains of a last event, and one whose folder was made anew of its callback,
    # both on stderr, which is somebody's pane.
    warnings.filterwarnings("ignore", module=r"watchdog\.")
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    logging.getLogger("fsevents").setLevel(logging.CRITICAL)

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            # A scan opens and closes files: reacting to that would wake it for ever.
            if event.event_type in ("created", "moved", "modified", "deleted"):
                changed.set()

    observer = Observer()
    try:
        observer.schedule(Handler(), str(root), recursive=True)
        observer.start()
    except OSError:  # no inotify instance or watch left, or no such folder
        return None
    return observer
