"""What the commands share: one line for a mistake, an exit code, a sign of life. Knows nothing of data or models."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable


class Problem(Exception):
    """What a person can cause and mend. Shown as one line on stderr; `code` 1 is an error, 2 is bad usage."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


class Flags(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str):
        raise Problem(f"{message}; see --help", code=2)


def exit_code(main: Callable[[], None]) -> int:
    """Run `main` and turn what a person caused into one line on stderr and an exit code. Bugs stay tracebacks."""
    try:
        main()
        sys.stdout.flush()
    except Problem as error:
        if os.environ.get("RANK", "0") == "0":  # of several ranks, all met it
            print(f"nanochat: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # whoever read has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be written, a closed pipe
        where = f": {error.filename}" if error.filename else ""
        print(f"nanochat: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


class Progress:
    """Says on stderr how many bytes are done, every `every_s`: a short step says nothing, a long one is seen to move."""

    def __init__(self, what: str, every_s: float = 10):
        self.what, self.every_s = what, every_s
        self.done, self.said = 0, time.monotonic()

    def add(self, n_bytes: int) -> None:
        self.done += n_bytes
        if time.monotonic() - self.said >= self.every_s:
            self.said = time.monotonic()
            print(f"nanochat: {self.what}: {self.done / 1e6:,.0f} MB", file=sys.stderr, flush=True)
