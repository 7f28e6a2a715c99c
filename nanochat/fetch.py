"""A file from a hub, whole or not at all: resumed, tried again, and checked against the sha256 that the hub gives.

Keeps to itself http, `.part` files and the `.sha256` beside each file. Knows nothing of what is in them.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from nanochat.command import Problem, Progress


def fetch(url: str, folder: Path, tries: int = 5, pause_s: float = 1.0) -> Path:
    """The file of `url` in `folder`, whole and with its sha256 beside it, or Problem. One that is there is hashed and
    not fetched again; one that broke off goes on where it was. Between tries it waits `pause_s`, doubled each time."""
    path = folder / url.rpartition("/")[2]
    if path.exists():
        return _as_recorded(path)
    part = path.with_name(path.name + ".part")
    with part.open("ab", buffering=0) as file:
        for attempt in range(1, tries + 1):
            try:
                expected = _transfer(url, file)
                break
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, cut short
                if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                    raise Problem(f"{url} answers {error.code} {error.reason}; is HF_ENDPOINT right?") from error
                if attempt == tries:
                    raise Problem(f"cannot fetch {url}: {error} ({tries} tries); prepare again to go on") from error
                time.sleep(pause_s * 2 ** (attempt - 1))
    found = _sha256(part)
    if found != (expected or found):
        part.unlink()
        raise Problem(f"{url} came with sha256 {found:.8}, the hub says {expected:.8}; deleted, prepare again")
    sidecar(path).write_text(f"{found}  {path.name}\n")  # first: a file without one was not put there by this
    part.replace(path)
    return path


def _transfer(url: str, file: BinaryIO) -> str | None:
    """Append to `file` what it lacks of `url`; the sha256 that the hub gives, if any. OSError: worth another try."""
    redirects = _Redirects()
    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        file.truncate(0)  # whole already, or of something else: its end was never seen
        raise ConnectionError("what had been fetched before does not fit") from error
    with response:
        if response.status == 206 and redirects.sha256 is None:
            file.truncate(0)
            raise ConnectionError("two halves that no checksum holds together")
        if response.status != 206:  # from the start, then
            file.truncate(0)
            start = 0
        length = response.headers["Content-Length"]
        done, whole = start, start + int(length) if length else None
        progress = Progress(f"fetching {url.rpartition('/')[2]}")
        progress.add(start)
        while block := response.read(1 << 20):
            _append(file, block)
            done += len(block)
            progress.add(len(block))
    if done != (whole or done):
        raise ConnectionError(f"closed after {done:,} of {whole:,} bytes")
    return redirects.sha256


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows; and keeps the sha256 of a large file, which the hub gives as it redirects to the storage behind it."""

    sha256: str | None = None

    def redirect_request(self, request, file, code, message, headers, url):
        etag = headers.get("X-Linked-Etag", "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", etag):
            self.sha256 = etag
        return super().redirect_request(request, file, code, message, headers, url)


def _append(file: BinaryIO, block: bytes) -> None:
    try:
        view = memoryview(block)
        while view:
            view = view[file.write(view) :]
    except OSError as error:  # not one of the network's: no other try will help
        raise Problem(f"cannot write {file.name}: {error.strerror}; free some space and prepare again") from error


def _as_recorded(path: Path) -> Path:
    record = sidecar(path)
    if not record.exists():
        raise Problem(f"{path} has no {record.name} beside it; delete it, or write that with sha256sum")
    if _sha256(path) != record.read_text().partition(" ")[0]:
        raise Problem(f"{path} is not as it was fetched: its sha256 is another; delete it and prepare again")
    return path


def sidecar(path: Path) -> Path:
    """Where the sha256 of a fetched file is, as sha256sum writes it."""
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
