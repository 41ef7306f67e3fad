"""The server: this machine alone reaches it, with the token, and what the page needs alone."""

import asyncio
import hmac
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from importlib.resources import files
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.jobs import Jobs
from erasepro_convert.ui.page import build_page
from erasepro_convert.ui.work import Pictures, Written

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
NEEDED = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/(assets|static)/.*|/written/\d+/[a-z]+"
    r"|/gradio_api/(app_id|startup-events|theme\.css|run/predict|heartbeat/\w+)/?"
)
"""The paths that the page asks for.  What else Gradio offers (files, uploads, proxies, schemas, its
history of runs) does not exist here."""
PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; "
    "object-src 'none'"
)
"""What the page may load: Gradio builds functions from text, so that 'unsafe-eval' is needed."""
DOCUMENT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""What a report may load: nothing, and no script runs in it."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

HEAD = """<script>
new MutationObserver((_, seen) => {
    const now = document.getElementById("now"), tabs = document.getElementById("tabs");
    if (now && tabs) {
        now.setAttribute("role", "status");
        now.setAttribute("aria-live", "polite");
        tabs.inert = true;
        seen.disconnect();
    }
}).observe(document, {childList: true, subtree: true});
</script>"""
"""What is at work is read aloud: the element stays while its content changes.  The fields wait for
what they held when the page was last used."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Stands before everything: who asks, from where, and for what.

    The token comes once in the page's address; from then on a cookie has it.
    """

    def __init__(self, app: App, *, token: str, port: int) -> None:
        """Guard an application on a port."""
        self._app = app
        self._token = token
        self._hosts = {f"{name}:{port}" for name in NAMES}
        self._cookie = f"erasepro-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page uses no WebSocket; not accepting one refuses it
        if answer := self._answer(HttpRequest(scope)):
            await answer(scope, receive, _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _answer(self, request: HttpRequest) -> Response | None:
        """Return a refusal or the first answer with the cookie; None to pass the request on."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return _refusal(421, "This page is at http://127.0.0.1 and nowhere else.")
        if not _is_own(request.headers, host):
            return _refusal(403, "Another site asked for this.")
        if not NEEDED.fullmatch(request.url.path):
            return _refusal(404, "There is no such page.")
        given = request.query_params.get("token")
        if request.url.path == "/" and given is not None and self._is_token(given):
            first = RedirectResponse("/", 303)
            first.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return first
        if not self._is_token(request.cookies.get(self._cookie, "")):
            return _refusal(
                403,
                "Open the address that erasepro-convert ui has printed: it ends in ?token=… and is "
                "another one each time.",
            )
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _is_own(headers: Headers, host: str) -> bool:
    """Whether a request comes from the page itself, or from an address that the user typed."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    return origin in (None, f"http://{host}") and site in ("none", "same-origin")


def _refusal(status: int, sentence: str) -> Response:
    page = f"<!doctype html><html lang=en><title>erasepro-convert</title><p>{sentence}</p></html>"
    return HTMLResponse(page, status, {"Content-Security-Policy": DOCUMENT})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            added = HEADERS | {"Content-Security-Policy": PAGE}
            headers = [
                pair for pair in headers if pair[0].lower() != b"access-control-allow-origin"
            ]
            headers += [
                (name.lower().encode(), value.encode())
                for name, value in added.items()
                if name.lower().encode() not in there
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sending


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(32)


def add_documents(app: FastAPI, jobs: Jobs) -> None:
    """Serve what jobs have drawn and written, by the job's number: no path is ever taken."""

    @app.get("/written/{number}/{kind}")
    def written(number: int, kind: str) -> Response:
        job = jobs.get(number)
        match job.result if job else None:
            case Pictures(png=png) if kind == "pictures":
                return Response(png, media_type="image/png")
            case Written(documents=documents):
                by_kind = {title.lower(): path for title, path in documents.items()}
                if kind in by_kind:
                    path = by_kind[kind]
                    types: Mapping[str, str] = {".html": "text/html", ".md": "text/plain"}
                    return FileResponse(
                        path,
                        media_type=types.get(path.suffix, "application/octet-stream"),
                        headers={"Content-Security-Policy": DOCUMENT},
                        filename=path.name,
                        content_disposition_type="inline" if path.suffix in types else "attachment",
                    )
        return _refusal(404, "There is no such document.")


def build_app(folders: Folders, jobs: Jobs, *, token: str, port: int) -> App:
    """Return the whole application behind its guard.

    It is called in a running event loop: elsewhere Gradio would make one and never close it.
    """
    app = FastAPI(openapi_url=None)
    add_documents(app, jobs)
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    gr.mount_gradio_app(
        app,
        build_page(folders, jobs),
        "/",
        server_name=HOST,
        server_port=port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=["/"],
        max_file_size=0,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(
            primary_hue="indigo",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=style,
        head=HEAD,
    )
    return Guard(app, token=token, port=port)


def serve(folders: Folders, listening: socket.socket, opened: Callable[[str], None]) -> None:
    """Serve the page on a socket until the process is interrupted, and end what is at work.

    ``opened`` is given the page's address once it answers.
    """
    port = listening.getsockname()[1]
    token, jobs = new_token(), Jobs()

    async def run() -> None:
        config = uvicorn.Config(
            build_app(folders, jobs, token=token, port=port),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            ws="none",
            server_header=False,
            proxy_headers=False,
        )
        listening.listen()  # who is told the address may use it at once
        opened(f"http://{HOST}:{port}/?token={token}")
        await uvicorn.Server(config).serve(sockets=[listening])

    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run())
    finally:
        jobs.close()
