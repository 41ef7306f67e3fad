"""A web server with ranges and faults that can be switched on, and a store that speaks S3."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Web:
    """What is served, what goes wrong, and what was sent.

    A fault strikes each ``every``-th request for content, or those that are numbered in ``only``.
    """

    folder: Path
    url: str = ""
    every: int = 0
    only: range = range(0)
    drop_after: int | None = None
    """Bytes of a body that are sent before the connection is cut."""
    short: bool = False
    """Whether a body ends early, with a length that says so."""
    status: int | None = None
    delay: float = 0.0
    stall: float = 0.0
    ranges: bool = True
    changes_at: int | None = None
    """The request from which on the ETag is another one."""
    etags: bool = True
    requests: int = 0
    served: int = 0
    seen: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, number: int) -> bool:
        """Whether a request is to fail."""
        return number in self.only or bool(self.every and number % self.every == 0)


class Handler(BaseHTTPRequestHandler):
    """Serves one folder by GET."""

    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:  # the library's name
        web = self.web
        path = web.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if not path.is_file():
            self._answer(404)
            return
        with web.lock:
            web.requests += 1
            number = web.requests
        strikes = web.strikes(number)
        time.sleep(web.delay)
        if strikes and web.stall:
            time.sleep(web.stall)
        if strikes and web.status:
            self._answer(web.status)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), min(int(asked[2]) + 1, size)) if asked else (0, size)
        headers = {}
        if web.etags:
            changed = web.changes_at is not None and number >= web.changes_at
            headers["ETag"] = f'"{path.name}-{"new" if changed else "old"}"'
        if not web.ranges or not asked:
            self.send_response(200)
            start, end = 0, size
        elif size == 0:
            self._answer(416, {"Content-Range": "bytes */0"})
            return
        else:
            self.send_response(206)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        if strikes and web.short:
            content = content[: len(content) // 2]
        headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        cut = len(content) if not strikes or web.drop_after is None else web.drop_after
        with web.lock:
            web.served += min(cut, len(content))
            web.seen.append((start, start + min(cut, len(content))))
        try:
            self.wfile.write(content[:cut])
        except OSError:
            self.close_connection = True
        if cut < len(content):
            self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what is tested."""


@contextmanager
def web_server(folder: Path) -> Iterator[Web]:
    """Serve a folder on this machine."""
    web = Web(folder)
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"web": web}))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Proxy:
    """A line to another port of this machine, which can be cut.

    Each ``every``-th connection ends after so many bytes of answers, or before they begin.
    """

    port: int
    url: str = ""
    every: int = 0
    cut_after: int = 0
    delay: float = 0.0
    connections: int = 0
    cuts: int = 0


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Pass on connections to a port."""
    line = Proxy(port)
    server = socket.create_server(("127.0.0.1", 0))
    line.url = f"http://127.0.0.1:{server.getsockname()[1]}"

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            line.connections += 1
            strikes = bool(line.every) and line.connections % line.every == 0
            threading.Thread(target=_serve, args=(line, client, strikes), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _serve(line: Proxy, client: socket.socket, strikes: bool) -> None:
    with client, socket.create_connection(("127.0.0.1", line.port)) as behind:
        asking = threading.Thread(target=_pass_on, args=(client, behind, None), daemon=True)
        asking.start()
        time.sleep(line.delay)
        if _pass_on(behind, client, line.cut_after if strikes else None):
            line.cuts += 1
        for side in (client, behind):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        asking.join()


def _pass_on(source: socket.socket, target: socket.socket, limit: int | None) -> bool:
    """Pass bytes on until there are no more, or so many; say whether it was the limit."""
    done = 0
    with suppress(OSError):
        while content := source.recv(1 << 16):
            if limit is not None and done + len(content) > limit:
                target.sendall(content[: limit - done])
                return True
            target.sendall(content)
            done += len(content)
    return False
