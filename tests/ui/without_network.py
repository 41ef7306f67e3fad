"""Run the command line in a process that reaches no other machine, and says what it tried."""

import socket
import sys
from typing import Any

LOCAL = ("127.0.0.1", "localhost", "::1", "")


def forbid() -> None:
    """Let every look-up and every connection to another machine fail, and print it."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            print(f"OUTSIDE {address}", file=sys.stderr, flush=True)
            raise OSError("no network here")
        connect(self, address)

    def guarded_look_up(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name not in LOCAL:
            print(f"OUTSIDE {name}", file=sys.stderr, flush=True)
            raise socket.gaierror("no network here")
        return look_up(host, *rest, **more)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = guarded_look_up


if __name__ == "__main__":
    forbid()
    from erasepro_convert.cli import main

    main()
