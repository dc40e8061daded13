"""A web server on the loopback interface that serves a folder as archives do, and misbehaves on demand."""

from __future__ import annotations

import html
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client asked, and the status that it got."""

    path: str
    status: int
    range: str | None
    user_agent: str


@dataclass
class ArchiveServer:
    """Serves ``folder``; the switches name paths below it, and each ``*_once`` acts on one request only.

    Attributes:
        folder: what is served.
        truncate_once: path -> bytes after which the connection is closed.
        alter_once: paths of which one byte in the middle arrives changed.
        unavailable_once: path -> Retry-After header [s] of a 503; "" for none.
        length_once: path -> Content-Length that is claimed.
        ignore_range: answer every request with the whole file.
        forbidden: paths that are answered with 403.
        requests: everything that was asked, in order.
    """

    folder: Path
    truncate_once: dict[str, int] = field(default_factory=dict)
    alter_once: set[str] = field(default_factory=set)
    unavailable_once: dict[str, str] = field(default_factory=dict)
    length_once: dict[str, int] = field(default_factory=dict)
    ignore_range: bool = False
    forbidden: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def asked(self, path: str) -> list[Request]:
        """The requests for one path."""
        return [request for request in self.requests if request.path == path]

    def statuses(self, suffix: str = "_x1d.fits") -> Counter:
        """How often each status was given for paths with an ending."""
        return Counter(request.status for request in self.requests if request.path.endswith(suffix))


@contextmanager
def serve(folder: Path) -> Iterator[ArchiveServer]:
    """Serve a folder at `ArchiveServer.url` while the context lasts."""
    archive = ArchiveServer(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, archive))
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

    def __init__(self, archive: ArchiveServer, *args):
        self.archive = archive
        super().__init__(*args)

    def handle(self):
        with suppress(ConnectionError):  # a client that leaves in the middle is part of the tests
            super().handle()

    def log_message(self, *args):
        """Keep the test output clean; `ArchiveServer.requests` is the log."""

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).lstrip("/")
        local = self.archive.folder / path
        if path in self.archive.unavailable_once:
            wait = self.archive.unavailable_once.pop(path)
            self._reply(path, HTTPStatus.SERVICE_UNAVAILABLE, b"busy", {"Retry-After": wait} if wait else {})
        elif path in self.archive.forbidden:
            self._reply(path, HTTPStatus.FORBIDDEN, b"no")
        elif local.is_dir():
            self._reply(path, HTTPStatus.OK, self._index(local, path), {"Content-Type": "text/html"})
        elif local.is_file():
            self._file(path, local)
        else:
            self._reply(path, HTTPStatus.NOT_FOUND, b"not here")

    def _index(self, local: Path, path: str) -> bytes:
        """A page as Apache's mod_autoindex writes it, with links that are no entries."""
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in local.iterdir())
        rows = "".join(
            f'<tr><td><a href="{quote(name)}">{html.escape(name)}</a></td><td>1.2M</td></tr>\n'
            for name in names
        )
        return (
            f'<html><head><title>Index of /{path}</title></head><body><table>\n<a href="?C=N;O=D">Name</a>'
            f'<a href="/">Parent Directory</a><a href="https://example.org/x1d.fits">elsewhere</a>\n{rows}'
            "</table></body></html>"
        ).encode()

    def _file(self, path: str, local: Path):
        data = local.read_bytes()
        modified = formatdate(local.stat().st_mtime, usegmt=True)
        headers = {"Last-Modified": modified, "Accept-Ranges": "bytes"}
        status = HTTPStatus.OK
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range", modified) == modified
        if wanted and same and not self.archive.ignore_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self._reply(path, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], HTTPStatus.PARTIAL_CONTENT
        if path in self.archive.alter_once:
            self.archive.alter_once.remove(path)
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0x01]) + data[middle + 1 :]
        self._reply(path, status, data, headers)

    def _reply(self, path: str, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None):
        request = Request(path, int(status), self.headers.get("Range"), self.headers.get("User-Agent", ""))
        self.archive.requests.append(request)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        length = self.archive.length_once.pop(path, len(body))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        cut = self.archive.truncate_once.pop(path, None)
        if cut is not None or length != len(body):
            self.close_connection = True
        self.wfile.write(body[:cut])
