"""A proxy on loopback that lets nothing through and remembers who tried: what HTTPS_PROXY points to in tests."""

from __future__ import annotations

import socketserver
import threading
from typing import Self

NOBODY = "127.0.0.1,localhost,::1"


class RefusingProxy:
    """`attempts`: the first line of every request that came, such as `CONNECT api.anthropic.com:443 HTTP/1.1`."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.attempts = self.attempts
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def env(self) -> dict[str, str]:
        """The variables that lead every client here but for loopback itself."""
        names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
        return {**dict.fromkeys(names, self.url), "NO_PROXY": NOBODY, "no_proxy": NOBODY}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    attempts: list[str]


class _Handler(socketserver.StreamRequestHandler):
    timeout = 10
    server: _Server

    def handle(self) -> None:
        try:
            line = self.rfile.readline(4096)
            self.server.attempts.append(line.decode("latin-1").strip() or "(nothing was asked)")
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError as error:  # counted all the same: somebody came
            self.server.attempts.append(f"({error})")
