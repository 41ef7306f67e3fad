"""Who may ask the page for what."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.jobs import Jobs
from erasepro_convert.ui.server import build_app
from erasepro_convert.ui.work import Pictures

TOKEN, PORT = "the-token", 7000
HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()


@pytest.fixture(scope="module")
def stranger(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Somebody without the token."""
    folders = Folders([tmp_path_factory.mktemp("allowed")])

    async def build() -> Any:
        return build_app(folders, jobs, token=TOKEN, port=PORT)

    return TestClient(asyncio.run(build()), base_url=HERE, follow_redirects=False)


@pytest.fixture
def user(stranger: TestClient) -> TestClient:
    client = TestClient(stranger.app, base_url=HERE, follow_redirects=False)
    client.get("/", params={"token": TOKEN})
    return client


def test_the_token_becomes_a_cookie_that_no_script_and_no_site_gets(stranger: TestClient) -> None:
    answer = stranger.get("/", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith(f"erasepro-{PORT}={TOKEN};")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    stranger.cookies.clear()


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/?token=", "/config", "/written/1/report"])
def test_without_the_token_there_is_nothing(path: str, stranger: TestClient) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "Open the address" in answer.text
    wrong = {"cookie": f"erasepro-{PORT}=wrong"}
    assert stranger.get(path, headers=wrong).status_code == 403


def test_with_it_there_is_the_page(user: TestClient) -> None:
    answer = user.get("/")
    assert answer.status_code == 200
    assert "erasepro-convert" in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1:80", ""])
def test_a_name_of_somebody_elses_leads_nowhere(host: str, user: TestClient) -> None:
    assert user.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_cannot_drive_it(headers: dict[str, str], user: TestClient) -> None:
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        assert user.post(path, json={}, headers=headers).status_code == 403
    assert user.get("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=https://example.com/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=https://example.com/",
        "/gradio_api/upload",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/runs",
        "/gradio_api/stream/1/1/1/playlist.m3u8",
        "/gradio_api/component_server",
        "/gradio_api/mcp/",
        "/gradio_api/vibe-code",
        "/gradio_api/call/news",
        "/gradio_api/api/news",
        "/gradio_api/deep_link",
        "/monitoring",
        "/svelte/../../etc/passwd",
        "/openapi.json",
        "/docs",
    ],
)
def test_what_else_gradio_offers_is_not_there(path: str, user: TestClient) -> None:
    assert user.get(path).status_code == 404
    assert user.post(path, json={}).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/../../etc/passwd", "/static/%2e%2e/%2e%2e/etc/passwd", "/assets//etc/passwd"]
)
def test_no_path_leads_out_of_gradios_files(path: str, user: TestClient) -> None:
    answer = user.get(path)
    assert answer.status_code >= 400
    assert "root:" not in answer.text


def test_what_a_job_drew_is_served_by_its_number(user: TestClient, jobs: Jobs) -> None:
    job = jobs.submit("look", "Drawing", lambda _: Pictures(b"png", ()))
    while not job.is_over:
        pass
    answer = user.get(f"/written/{job.number}/pictures")
    assert (answer.content, answer.headers["content-type"]) == (b"png", "image/png")
    for path in (f"/written/{job.number}/report", "/written/99/pictures"):
        assert user.get(path).status_code == 404


def test_the_page_asks_nobody_for_fonts(user: TestClient) -> None:
    for path in ("/", "/theme.css", "/config"):
        assert "googleapis" not in user.get(path).text
    assert "system-ui" in user.get("/theme.css").text


def test_folders_are_not_told_to_strangers(stranger: TestClient, tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in stranger.get("/").text
