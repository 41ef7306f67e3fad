"""Objects in stores, over real connections: what travels, what fails, what shows when."""

import hashlib
import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from safetensors import safe_open
from safetensors.torch import save_file
from upath import UPath

from erasepro_convert import demo
from erasepro_convert.batch import readiness
from erasepro_convert.batch.inputs import MATCH, find_inputs
from erasepro_convert.batch.ledger import LEDGER
from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import CheckpointError, LimitError, StorageError, UsageError
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.recipe import load_recipe
from erasepro_convert.sd1.keys import Widths
from erasepro_convert.storage import byte_ranges, failures, remote_file, upload
from erasepro_convert.storage.failures import translating_errors
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import TRIES, Location, file_name, locate, redacted
from tests.conftest import SHORT, VAN_GOGH, Cli, Ran, sha256
from tests.miniature import State, components, state_dict, with_ema
from tests.servers import Web, proxy, web_server

pytestmark = pytest.mark.network

SMALL = Widths((32, 32, 32, 32), 128, 4, (32, 32, 32, 32), 48, 48)
SECRET = "WhoeverReadsThisKnowsTooMuch"
BUCKET = "models"


def silent(*_: object) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Models:
    """Files of one model, and what comes out of it."""

    folder: Path
    recipe: Path
    output: str
    """The digest of what a conversion of the file gives."""

    def of(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def small() -> State:
    return state_dict(SMALL)


@pytest.fixture(scope="session")
def models(small: State, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    save_file(small, folder / "model.safetensors")
    save_file(with_ema(small), folder / "ema.safetensors")
    whole = {"state_dict": with_ema(small), "epoch": 1}
    torch.save(whole, folder / "zip.ckpt")
    torch.save(whole, folder / "legacy.ckpt", _use_new_zipfile_serialization=False)
    (folder / "empty.ckpt").touch()
    (folder / "model with space.safetensors").hardlink_to(folder / "model.safetensors")
    recipe = folder / "recipe.yaml"
    recipe.write_text(VAN_GOGH, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        convert(
            load_recipe(recipe), Path("model.safetensors"), Path("o.safetensors"), Options(), silent
        )
    return Models(folder, recipe, sha256(folder / "o.safetensors"))


@pytest.fixture
def web(models: Models) -> Iterator[Web]:
    with web_server(models.folder) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between tries; send parts as small as S3 takes them."""
    monkeypatch.setattr(failures, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(upload, "PART_SIZE", 5 << 20)


@pytest.fixture(scope="session")
def store() -> Iterator[Any]:
    """A client of an S3 server, to which the environment leads."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{SECRET}")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        yield client
        client.close()
    server.stop()


@pytest.fixture
def bucket(store: Any, models: Models) -> Iterator[Any]:
    """A store with the model in it; the bucket is emptied afterwards."""
    S3FileSystem.clear_instance_cache()  # a client looks the endpoint up once
    store.create_bucket(Bucket=BUCKET)
    put(store, models.of("model.safetensors"), "in/model.safetensors")
    yield store
    for key in keys(store):
        store.delete_object(Bucket=BUCKET, Key=key)
    for entry in unfinished(store):
        name = {"Key": entry["Key"], "UploadId": entry["UploadId"]}
        store.abort_multipart_upload(Bucket=BUCKET, **name)
    store.delete_bucket(Bucket=BUCKET)


def put(store: Any, path: Path, key: str) -> None:
    with path.open("rb") as file:
        store.put_object(Bucket=BUCKET, Key=key, Body=file)


def get(store: Any, key: str) -> bytes:
    return cast(bytes, store.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def keys(store: Any) -> list[str]:
    return [entry["Key"] for entry in store.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def unfinished(store: Any) -> list[Any]:
    return cast(list[Any], store.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))


def parts(store: Any, entry: Any) -> list[Any]:
    name = {"Key": entry["Key"], "UploadId": entry["UploadId"]}
    return cast(list[Any], store.list_parts(Bucket=BUCKET, **name).get("Parts", []))


IN, OUT = f"s3://{BUCKET}/in/model.safetensors", f"s3://{BUCKET}/out/new.safetensors"


def run(
    models: Models, source: str, target: "str | Location", progress: Any = silent, **options: Any
) -> Manifest:
    recipe = load_recipe(models.recipe)
    place = locate(target) if isinstance(target, str) else target
    return convert(recipe, locate(source), place, Options(**options), progress)


# reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model.safetensors", "ema.safetensors", "zip.ckpt", "legacy.ckpt"]
)
def test_a_url_gives_what_the_file_gives(
    name: str, models: Models, web: Web, tmp_path: Path
) -> None:
    local, other = tmp_path / "local.safetensors", tmp_path / "other.safetensors"
    of_file = run(models, str(models.of(name)), local)
    of_url = run(models, f"{web.url}/{name}", other)
    assert sha256(local) == sha256(other)
    assert of_url.edits == of_file.edits
    assert of_url.input.name == of_file.input.name
    assert web.requests < 100


def test_a_url_of_which_all_is_needed_has_the_manifest_of_the_file(
    models: Models, web: Web, tmp_path: Path
) -> None:
    of_url = run(models, f"{web.url}/model%20with%20space.safetensors", tmp_path / "o.safetensors")
    of_file = run(
        models,
        str(models.of("model with space.safetensors")),
        tmp_path / "o.safetensors",
        force=True,
    )
    assert of_url.input == of_file.input
    assert of_url.manifest_sha256 == of_file.manifest_sha256
    assert "stored" not in of_url.to_json()


def test_what_is_stated_before_reading_has_no_digest(
    models: Models, web: Web, tmp_path: Path
) -> None:
    local, other = tmp_path / "local.safetensors", tmp_path / "other.safetensors"
    run(models, str(models.of("model.safetensors")), str(local), embed_manifest=True)
    manifest = run(models, f"{web.url}/model.safetensors", str(other), embed_manifest=True)
    (file,) = manifest.input.files
    assert (file.sha256, file.stored is None) == (None, False)
    with safe_open(other, framework="pt") as written:
        embedded = json.loads(written.metadata()["erasepro.manifest"])
    assert embedded["input"] == manifest.model_dump(mode="json")["input"]


@pytest.mark.parametrize("name", ["ema.safetensors", "zip.ckpt"])
def test_ema_copies_do_not_travel(
    name: str, models: Models, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what lies right beside something that is needed."""
    monkeypatch.setattr(remote_file, "GAP_LIMIT", 2048)
    monkeypatch.setattr(remote_file, "PAGE_SIZE", 4096)
    manifest = run(models, f"{web.url}/{name}", tmp_path / "out.safetensors")
    checkpoint = open_checkpoint(models.of(name))
    copies = {n: t for n, t in checkpoint.tensors.items() if n.startswith("model_ema.")}
    travelled = bytearray(checkpoint.size)
    for start, end in web.seen:
        travelled[start:end] = b"\1" * (end - start)
    large = [t for t in copies.values() if t.nbytes > 10_000]
    assert sum(t.nbytes for t in large) > 3 << 20
    for tensor in large:
        inside = travelled[tensor.offset + 4096 : tensor.offset + tensor.nbytes - 4096]
        assert not any(inside)
    (file,) = manifest.input.files
    assert (file.sha256, file.autov2, file.autov3) == (None, None, None)
    assert file.stored
    assert file.stored.etag == f'"{name}-old"'
    assert '"stored"' in manifest.to_json()


FAULTS: dict[str, dict[str, Any]] = {
    "cut connections": {"drop_after": 1000},
    "connections without an answer": {"drop_after": 0},
    "short bodies": {"short": True},
    "503": {"status": 503},
    "429": {"status": 429},
    "no answer in time": {"stall": 0.6},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_passing_faults_are_survived(
    fault: str, models: Models, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_ranges, "READ_TIMEOUT", 0.3)
    web.every = 4
    for name, value in FAULTS[fault].items():
        setattr(web, name, value)
    run(models, f"{web.url}/model.safetensors", tmp_path / "out.safetensors")
    assert sha256(tmp_path / "out.safetensors") == models.output


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 503}, "the server says 503 Service Unavailable"),
        ({"status": 403}, "the server says 403 Forbidden"),
        ({"status": 404}, "there is no such object"),
        ({"drop_after": 10}, "the connection failed"),
        ({"stall": 0.4}, "no answer in time"),
    ],
)
def test_lasting_faults_end_in_one_line(
    fault: dict[str, Any],
    message: str,
    models: Models,
    web: Web,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(byte_ranges, "READ_TIMEOUT", 0.2)
    web.only = range(8, 10**6)
    for name, value in fault.items():
        setattr(web, name, value)
    url = f"{web.url}/model.safetensors?X-Amz-Signature={SECRET}"
    ran = cli(models.recipe, url, tmp_path / "out.safetensors")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {web.url}/model.safetensors: {message}")
    assert ran.err.count("\n") == 1
    assert SECRET not in ran.err
    assert list(tmp_path.iterdir()) == []
    assert web.requests < 60  # it gives up


def test_a_slow_server_is_waited_for(models: Models, web: Web, tmp_path: Path) -> None:
    web.delay = 0.05
    run(models, f"{web.url}/model.safetensors", tmp_path / "out.safetensors")
    assert sha256(tmp_path / "out.safetensors") == models.output


def test_another_object_in_its_place_is_noticed(
    models: Models, web: Web, cli: Cli, tmp_path: Path
) -> None:
    web.changes_at = 8
    ran = cli(models.recipe, f"{web.url}/model.safetensors", tmp_path / "out.safetensors")
    assert (ran.code, ran.err) == (4, "error: model.safetensors: it changed while it was read\n")
    assert list(tmp_path.iterdir()) == []


def test_what_was_given_up_is_not_tried_again(models: Models, web: Web) -> None:
    """So that an interrupted run ends, whatever the server does."""
    checkpoint = open_checkpoint(locate(f"{web.url}/model.safetensors"))
    before = web.requests
    checkpoint.give_up()
    with pytest.raises(StorageError):
        checkpoint.tensor(checkpoint.in_order(checkpoint.tensors)[-1])
    assert web.requests == before


def test_a_server_without_ranges_is_refused(
    models: Models, web: Web, cli: Cli, tmp_path: Path
) -> None:
    web.ranges = False
    ran = cli(models.recipe, f"{web.url}/model.safetensors", tmp_path / "out.safetensors")
    assert ran.code == 1
    assert "does not send parts of a file" in ran.err
    assert web.requests == 1


def test_what_is_not_there_or_empty(models: Models, web: Web, cli: Cli, tmp_path: Path) -> None:
    ran = cli(models.recipe, f"{web.url}/none.ckpt?{SECRET}", tmp_path / "out.safetensors")
    assert (ran.code, ran.err) == (2, f"error: {web.url}/none.ckpt: there is no such file\n")
    ran = cli("inspect", f"{web.url}/none.ckpt?{SECRET}")
    assert (ran.code, ran.err) == (2, f"error: {web.url}/none.ckpt: there is no such file\n")
    ran = cli(models.recipe, f"{web.url}/empty.ckpt", tmp_path / "out.safetensors")
    assert (ran.code, ran.err) == (4, "error: empty.ckpt: it is empty\n")
    ran = cli(models.recipe, "http://127.0.0.1:1/model.ckpt", tmp_path / "out.safetensors")
    assert ran.code == 1
    assert "127.0.0.1:1/model.ckpt: the connection failed" in ran.err


def test_other_commands_read_urls(models: Models, web: Web, cli: Cli, tmp_path: Path) -> None:
    url = f"{web.url}/model.safetensors"
    ran = cli("inspect", "--hash", "--json", f"{url}?{SECRET}")
    (found,) = json.loads(ran.out)
    assert found["path"] == url
    assert found["files"][0]["sha256"] == sha256(models.of("model.safetensors"))
    ran = cli("probe", models.recipe, url, "--base", url, "--json")
    assert list(json.loads(ran.out)) == [url]
    out = tmp_path / "out.safetensors"
    assert cli(models.recipe, f"{web.url}/ema.safetensors", out).code == 0
    ran = cli("verify", out, "--base", f"{web.url}/ema.safetensors", "--replay")
    assert (ran.code, ran.err) == (0, "")
    ran = cli("verify", out, "--base", url)
    assert ran.code == 5
    assert "base: ema.safetensors: size" in ran.out
    manifest = read_manifest(manifest_path(out))
    (models.folder / "released.safetensors").write_bytes(out.read_bytes())
    (models.folder / "released.manifest.json").write_text(manifest.to_json(), "utf-8")
    ran = cli("verify", f"{web.url}/released.safetensors")
    assert (ran.code, ran.err) == (0, "")


def test_any_store_that_fsspec_knows_can_be_read(models: Models, tmp_path: Path) -> None:
    place = locate("memory://models/model.safetensors")
    assert isinstance(place, UPath)
    place.write_bytes(models.of("model.safetensors").read_bytes())
    run(models, "memory://models/model.safetensors", tmp_path / "out.safetensors")
    assert sha256(tmp_path / "out.safetensors") == models.output

    def replace(stage: str, done: int, total: int) -> None:
        place.write_bytes(models.of("model.safetensors").read_bytes())

    with pytest.raises(CheckpointError, match="changed while it was read"):
        run(models, "memory://models/model.safetensors", tmp_path / "x.safetensors", replace)
    assert not (tmp_path / "x.safetensors").exists()


# places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://127.0.0.1:1/out.safetensors", "only s3:// and gs:// can be written to"),
        ("memory://models/out.safetensors", "only s3:// and gs:// can be written to"),
        ("s3://models/out/", "no store takes a folder"),
        ("s3://models/out.ckpt", "must end in .safetensors"),
        ("weird://models/out.safetensors", "weird:// is not known"),
    ],
)
def test_targets_that_cannot_be(target: str, message: str, models: Models, cli: Cli) -> None:
    ran = cli(models.recipe, models.of("model.safetensors"), target)
    assert ran.code == 2
    assert message in ran.err


def test_a_signature_is_made_here(models: Models, cli: Cli) -> None:
    source = models.of("model.safetensors")
    ran = cli(models.recipe, source, "s3://models/out.safetensors", "--sign", models.recipe)
    assert ran.code == 2
    assert "--sign is for an output that is here" in ran.err


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(UsageError, match=r"pip install 'erasepro-convert\[s3\]'"):
        locate(IN)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (
            f"https://user:{SECRET}@host:1/a/b%20c.ckpt?X-Amz-Signature={SECRET}/x#{SECRET}",
            "b c.ckpt",
        ),
        (f"s3://AKIA:{SECRET}@bucket/a/b%20c.ckpt", "b%20c.ckpt"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, name: str) -> None:
    place = locate(url)
    assert SECRET not in redacted(place)
    assert file_name(place) == name
    assert SECRET not in redacted(manifest_path(place))


def test_paths_are_paths() -> None:
    for text in ("a/b.ckpt", "/a/b", "s3:/a/b", "C:/x", "./a://b"):
        assert locate(text) == Path(text)
    assert locate("file:///a/b%20c.ckpt") == Path("/a/b c.ckpt")


def test_a_manifest_from_before_stays_true(models: Models, tmp_path: Path) -> None:
    """What only stores need is left out of the manifests of files."""
    manifest = run(models, str(models.of("model.safetensors")), tmp_path / "o.safetensors")
    assert set(json.loads(manifest.to_json())["input"]["files"][0]) == {
        "name",
        "size",
        "container",
        "sha256",
        "autov2",
        "autov3",
    }


# S3 -------------------------------------------------------------------------------------------


def test_from_store_to_store(bucket: Any, models: Models, cli: Cli, tmp_path: Path) -> None:
    ran = cli(models.recipe, IN, OUT)
    assert (ran.code, ran.err) == (0, "")
    assert f"wrote {OUT} (" in ran.out
    written = get(bucket, "out/new.safetensors")
    assert hashlib.sha256(written).hexdigest() == models.output
    assert keys(bucket) == ["in/model.safetensors", "out/new.manifest.json", "out/new.safetensors"]
    assert unfinished(bucket) == []
    manifest = Manifest.model_validate_json(get(bucket, "out/new.manifest.json"))
    assert manifest.output.files[0].sha256 == models.output
    assert manifest.input.files[0].sha256 == sha256(models.of("model.safetensors"))
    for args in ((), ("--base", IN, "--replay")):
        ran = cli("verify", OUT, *args)
        assert (ran.code, ran.err) == (0, "")
    ran = cli(models.recipe, IN, OUT)
    assert (ran.code, ran.err) == (2, f"error: {OUT}: exists already; --force replaces it\n")
    assert cli(models.recipe, IN, OUT, "--force").code == 0
    ran = cli(models.recipe, OUT, OUT, "--force")
    assert ran.code == 2
    assert ran.err.startswith(f"error: {OUT}: this would replace {OUT}, which is read;")
    again = run(models, OUT, tmp_path / "again.safetensors")  # its manifest is found
    assert again.previous
    assert again.previous.name == "new.manifest.json"


def test_nothing_shows_before_all_is_there(bucket: Any, models: Models) -> None:
    """Several parts are sent meanwhile."""
    seen, most = set(), 0

    def look(stage: str, done: int, total: int) -> None:
        nonlocal most
        if stage == "write" and (done == total or 3 * done > total > 2 * done):
            seen.update(keys(bucket))
            for entry in unfinished(bucket):
                most = max(most, len(parts(bucket, entry)))

    run(models, IN, OUT, look)
    assert seen == {"in/model.safetensors"}
    assert most >= 2
    assert len(keys(bucket)) == 3


@pytest.mark.parametrize(
    ("share", "failure"),
    [(0.5, RuntimeError("boom")), (1.0, OSError(5, "no")), (0.5, KeyboardInterrupt())],
)
def test_a_failure_leaves_nothing(
    share: float, failure: BaseException, bucket: Any, models: Models
) -> None:
    def fail(stage: str, done: int, total: int) -> None:
        if stage == "write" and done >= share * total:
            raise failure

    with pytest.raises(type(failure)):
        run(models, str(models.of("model.safetensors")), OUT, fail)
    assert keys(bucket) == ["in/model.safetensors"]
    assert unfinished(bucket) == []


def test_a_result_that_does_not_hold_leaves_nothing(
    bucket: Any, models: Models, tmp_path: Path
) -> None:
    recipe = tmp_path / "strict.yaml"
    recipe.write_text(SHORT + "limits: {leak: 0.000001}\n", encoding="utf-8")
    source = models.of("model.safetensors")
    with pytest.raises(LimitError):
        convert(load_recipe(recipe), source, locate(OUT), Options(), silent)
    assert keys(bucket) == ["in/model.safetensors"]
    assert unfinished(bucket) == []


@pytest.mark.parametrize("call", ["upload_part", "complete_multipart_upload", "the manifest"])
def test_a_failing_store_leaves_nothing(
    call: str, bucket: Any, models: Models, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = S3FileSystem.call_s3

    def failing(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        of_manifest = kwargs.get("Key", "").endswith(".json")
        struck = "complete_multipart_upload" if call == "the manifest" else call
        if method == struck and (call != "the manifest" or of_manifest):
            raise OSError(5, f"failed with {SECRET}")
        return original(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "call_s3", failing)
    ran = cli(models.recipe, models.of("model.safetensors"), OUT)
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(rf"error: s3://{BUCKET}/out/new\.[a-z.]+: [^\n]*\n", ran.err)
    assert SECRET not in ran.err
    assert keys(bucket) == ["in/model.safetensors"]
    assert unfinished(bucket) == []


@pytest.mark.parametrize("cut_after", [0, 100, 200_000])
def test_cut_lines_to_a_store_are_survived(
    cut_after: int, bucket: Any, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_SIZE", 1 << 20)
    port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with proxy(port) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        line.every, line.cut_after, line.delay = 4, cut_after, 0.01
        run(models, IN, OUT)
    assert line.cuts > 0
    assert hashlib.sha256(get(bucket, "out/new.safetensors")).hexdigest() == models.output
    # An upload that was begun while the answer was lost cannot be known; it holds nothing.  Each
    # try to begin it can leave one, but the last, which was answered.
    left = unfinished(bucket)
    assert not any(parts(bucket, entry) for entry in left)
    begun = Counter(entry["Key"] for entry in left)
    assert all(count < TRIES for count in begun.values()), begun


def test_a_store_that_goes_away(
    bucket: Any, models: Models, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts, too, are gone when the line is there again, or the store's rule removes them."""
    monkeypatch.setattr(failures, "TRIES", 2)
    port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with proxy(port) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        line.every, line.cut_after = 1, 0
        ran = cli(models.recipe, models.of("model.safetensors"), OUT)
    assert ran.code == 1
    assert ran.err.startswith(f"error: s3://{BUCKET}/out/new")
    assert keys(bucket) == ["in/model.safetensors"]


def test_a_bucket_that_is_not_there(bucket: Any, models: Models, cli: Cli) -> None:
    ran = cli(models.recipe, IN, "s3://elsewhere/out.safetensors")
    message = "error: s3://elsewhere/out.safetensors: there is no such bucket\n"
    assert (ran.code, ran.err) == (1, message)


def test_parts_carry_checksums(
    bucket: Any, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's default since 1.36; a part that was damaged on its way is refused."""
    from aiobotocore.httpsession import AIOHTTPSession

    sent: list[dict[str, str]] = []
    original = AIOHTTPSession.send

    async def send(self: Any, request: Any) -> Any:
        if "partNumber=" in request.url:
            sent.append({name.lower(): str(value) for name, value in request.headers.items()})
        return await original(self, request)

    monkeypatch.setattr(AIOHTTPSession, "send", send)
    run(models, str(models.of("model.safetensors")), OUT)
    assert len(sent) > 3
    for headers in sent:
        trailer = headers.get("x-amz-trailer", "")
        assert any("x-amz-checksum-" in text for text in (trailer, *headers))


def test_an_object_that_is_replaced_is_noticed(
    bucket: Any, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "PREFETCHED_REQUESTS", 1)
    monkeypatch.setattr(remote_file, "BLOCK_SIZE", 1 << 20)
    struck = threading.Event()

    def replace(stage: str, done: int, total: int) -> None:
        if stage == "write" and not struck.is_set():
            struck.set()
            put(bucket, models.of("ema.safetensors"), "in/model.safetensors")

    with pytest.raises(CheckpointError, match="changed while it was read"):
        run(models, IN, tmp_path / "out.safetensors", replace)
    assert list(tmp_path.iterdir()) == []


def test_a_signed_url_is_read(bucket: Any, models: Models, cli: Cli, tmp_path: Path) -> None:
    """It is good for GET of this object alone."""
    where = {"Bucket": BUCKET, "Key": "in/model.safetensors"}
    url = bucket.generate_presigned_url("get_object", Params=where)
    assert "X-Amz-Signature=" in url or "Signature=" in url
    ran = cli(models.recipe, url, tmp_path / "out.safetensors")
    assert (ran.code, ran.err) == (0, "")
    assert sha256(tmp_path / "out.safetensors") == models.output
    everything = ran.out + (tmp_path / "out.manifest.json").read_text("utf-8")
    assert "Signature" not in everything


def count_requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Parts that are asked of S3 from now on."""
    asked: list[tuple[int, int]] = []
    original = byte_ranges.S3RangeReader.get

    def get(self: byte_ranges.S3RangeReader, start: int, end: int) -> bytes:
        asked.append((start, end))
        return original(self, start, end)

    monkeypatch.setattr(byte_ranges.S3RangeReader, "get", get)
    return asked


def test_a_folder_in_a_store(
    bucket: Any, models: Models, small: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    for part, tensors in components(small, SMALL).items():
        (folder / part).mkdir(parents=True)
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        save_file(tensors, folder / part / f"{stem}.safetensors")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        put(bucket, path, f"folder/{path.relative_to(folder).as_posix()}")
    of_file = run(models, str(folder), tmp_path / "local.safetensors")
    asked = count_requests(monkeypatch)
    of_store = run(models, f"s3://{BUCKET}/folder", tmp_path / "other.safetensors")
    assert len(asked) < 60
    assert sha256(tmp_path / "local.safetensors") == sha256(tmp_path / "other.safetensors")
    assert of_store.input == of_file.input


def test_a_folder_that_was_put_into_a_store_is_verified(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path
) -> None:
    with demo.checkpoint() as model:
        run(models, str(model), str(tmp_path / "out"), folder=True)
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        put(bucket, path, f"out/{path.relative_to(tmp_path / 'out').as_posix()}")
    ran = cli("verify", f"s3://{BUCKET}/out")
    assert (ran.code, ran.err) == (0, "")
    bucket.put_object(Bucket=BUCKET, Key="out/unet/stranger.bin", Body=b"x")
    bucket.delete_object(Bucket=BUCKET, Key="out/model_index.json")
    ran = cli("verify", f"s3://{BUCKET}/out")
    assert ran.code == 5
    assert "file: unet/stranger.bin" in ran.out
    assert "file: model_index.json" in ran.out


def test_an_object_that_cannot_be_looked_at_is_removed(
    bucket: Any, models: Models, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = S3FileSystem.info

    def info(self: Any, path: str, **kwargs: Any) -> Any:
        found = original(self, path, **kwargs)
        return {**found, "size": 1} if path.endswith("new.safetensors") else found

    monkeypatch.setattr(S3FileSystem, "info", info)
    ran = cli(models.recipe, models.of("model.safetensors"), OUT)
    assert ran.code == 1
    assert "bytes were sent, 1 are there" in ran.err
    assert keys(bucket) == ["in/model.safetensors"]


def test_secrets_go_nowhere(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ran = cli(models.recipe, IN, OUT, "--json")
    assert ran.code == 0
    with safe_open(models.of("model.safetensors"), framework="pt") as file:
        assert file.keys()
    written = get(bucket, "out/new.safetensors") + get(bucket, "out/new.manifest.json")
    assert SECRET.encode() not in written
    assert SECRET not in ran.out + ran.err + caplog.text
    failed = cli(models.recipe, f"s3://{BUCKET}/none.ckpt", tmp_path / "out.safetensors")
    assert failed.code == 2
    assert SECRET not in failed.err


def test_several_at_once(bucket: Any, models: Models) -> None:
    """In other threads than the main one, as a batch has it."""
    with ThreadPoolExecutor(3) as threads:
        runs = [
            threads.submit(run, models, IN, f"s3://{BUCKET}/out/{number}.safetensors")
            for number in range(3)
        ]
        assert {done.result().output.files[0].sha256 for done in runs} == {models.output}
    assert len(keys(bucket)) == 7


def in_another_process(models: Models) -> str:
    return run(models, IN, OUT).output.files[0].sha256


def test_a_new_process(bucket: Any, models: Models) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(in_another_process, (models,)) == models.output
    assert hashlib.sha256(get(bucket, "out/new.safetensors")).hexdigest() == models.output


# batches --------------------------------------------------------------------------------------


def batch(cli: Cli, models: Models, records: Path, *given: object, out: str = "out") -> Ran:
    where = ("--out", f"s3://{BUCKET}/{out}", "--records", records, "--jobs", 2)
    return cli("batch", models.recipe, *given, *where)


def test_a_batch_from_store_to_store(bucket: Any, models: Models, cli: Cli, tmp_path: Path) -> None:
    put(bucket, models.of("ema.safetensors"), "in/deep/ema.safetensors")
    put(bucket, models.of("recipe.yaml"), "in/deep/bad.ckpt")
    put(bucket, models.of("recipe.yaml"), "in/notes.txt")
    ran = batch(cli, models, tmp_path / "records", f"s3://{BUCKET}/in")
    assert ran.code == 4
    assert "3 files: 2 done, 1 refused" in ran.out
    there = {key.removeprefix("out/") for key in keys(bucket) if key.startswith("out/")}
    records = {LEDGER, "batch.html"}
    assert there - records == {
        "model-recipe.safetensors",
        "model-recipe.manifest.json",
        "deep/ema-recipe.safetensors",
        "deep/ema-recipe.manifest.json",
    }
    digest = hashlib.sha256(get(bucket, "out/model-recipe.safetensors")).hexdigest()
    assert digest == models.output
    for name in records:
        assert get(bucket, f"out/{name}") == (tmp_path / "records" / name).read_bytes()
        assert SECRET.encode() not in get(bucket, f"out/{name}")
    assert cli("verify", f"s3://{BUCKET}/out/deep/ema-recipe.safetensors").code == 0


def test_what_a_batch_takes_and_passes_over_in_a_store(bucket: Any, models: Models) -> None:
    for key in (
        "in/out/model-recipe.safetensors",
        "in/outdoor.SAFETENSORS",
        "in/a.sft",
        "in/notes.txt",
        "in/.hidden.ckpt",
        "in/ui/unet/flux.safetensors",
        "in/sd/unet/diffusion_pytorch_model.bin",
        "in/sd/vae/diffusion_pytorch_model.bin",
        "in/sd/whole.ckpt",
        "in/sd/README.md",
    ):
        put(bucket, models.of("recipe.yaml"), key)
    out = locate(f"s3://{BUCKET}/in/out")
    found = find_inputs([f"s3://{BUCKET}/in"], MATCH, out)
    top = f"s3://{BUCKET}/in/"
    assert {redacted(one.path).removeprefix(top): str(one.below) for one in found.inputs} == {
        "a.sft": ".",
        "model.safetensors": ".",
        "outdoor.SAFETENSORS": ".",
        "sd/whole.ckpt": "sd",
        "ui/unet/flux.safetensors": "ui/unet",
        "sd": ".",
    }
    assert found.passed_over == {
        "hidden": [f"{top}.hidden.ckpt"],
        "*.txt": [f"{top}notes.txt"],
        "output folder": [f"{top}out"],
    }
    fits = find_inputs([f"{top}**/*.safetensors", f"{top}sd"], MATCH, out)
    assert [redacted(one.path).removeprefix(top) for one in fits.inputs] == [
        "model.safetensors",
        "ui/unet/flux.safetensors",
        "sd/whole.ckpt",
        "sd",
    ]
    assert fits.passed_over == {"output folder": [f"{top}out/model-recipe.safetensors"]}
    parts = find_inputs([f"{top}**/*.[bc]*"], MATCH, out)
    assert [redacted(one.path).removeprefix(top) for one in parts.inputs][-1] == "sd/whole.ckpt"
    assert len(parts.passed_over["part of a diffusers folder"]) == 2


def test_a_batch_replaces_no_input_in_a_store(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path
) -> None:
    before = get(bucket, "in/model.safetensors")
    words = ("--name", "{stem}.safetensors", "--force")
    ran = batch(cli, models, tmp_path / "records", IN, *words, out="in")
    assert ran.code == 2
    assert f"{IN}: this would replace {IN}, which is read" in ran.err
    assert get(bucket, "in/model.safetensors") == before
    assert not (tmp_path / "records").exists()


def test_a_batch_in_a_store_is_resumed_from_anywhere(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path
) -> None:
    put(bucket, models.of("model.safetensors"), "in/other.safetensors")
    assert batch(cli, models, tmp_path / "here", f"s3://{BUCKET}/in/*.safetensors").code == 0
    again = batch(cli, models, tmp_path / "elsewhere", f"s3://{BUCKET}/in/*.safetensors")
    assert "2 files: 2 done (2 of them before)" in again.out
    put(bucket, models.of("zip.ckpt"), "in/other.safetensors")
    bucket.delete_object(Bucket=BUCKET, Key="out/model-recipe.manifest.json")
    third = batch(cli, models, tmp_path / "here", f"s3://{BUCKET}/in")
    assert third.code == 0
    assert "as before" not in third.out
    lines = (tmp_path / "here" / LEDGER).read_text("utf-8").splitlines()
    assert len(lines) == 4
    assert "out/model-recipe.manifest.json" in keys(bucket)


def test_a_place_that_cannot_be_looked_at_stops_no_other(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(place: Location) -> bool:
        if "closed" in str(place):
            raise StorageError(f"{redacted(place)}: the server says 403 Forbidden")
        return exists(place)

    monkeypatch.setattr(readiness, "exists", look)
    put(bucket, models.of("model.safetensors"), "in/closed.safetensors")
    records = tmp_path / "records"
    ran = batch(cli, models, records, f"s3://{BUCKET}/in")
    assert ran.code == 1
    assert "2 files: 1 done, 1 failed" in ran.out
    assert "the server says 403" in ran.out
    assert {path.name for path in records.iterdir()} == {LEDGER, "batch.html"}


def test_a_batchs_text_encoder_can_be_a_url(
    bucket: Any, models: Models, small: State, cli: Cli, tmp_path: Path
) -> None:
    without = {name: value for name, value in small.items() if "cond_stage" not in name}
    save_file(without, tmp_path / "without.safetensors")
    words = ("batch", models.recipe, tmp_path / "without.safetensors", "--text-encoder", IN)
    assert cli(*words, "--out", tmp_path / "out").code == 0
    again = cli(*words, "--out", tmp_path / "out")
    assert "1 done (1 of them before)" in again.out


def test_a_batch_of_signed_urls_keeps_no_signature(
    bucket: Any, models: Models, cli: Cli, tmp_path: Path
) -> None:
    where = {"Bucket": BUCKET, "Key": "in/model.safetensors"}
    url = bucket.generate_presigned_url("get_object", Params=where)
    gone = bucket.generate_presigned_url("get_object", Params=where | {"Key": "in/gone.ckpt"})
    (tmp_path / "list.txt").write_text(f"{url}\n{gone}\n")
    ran = cli("batch", models.recipe, "--list", tmp_path / "list.txt", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "1 done, 1 failed" in ran.out
    assert sha256(tmp_path / "out/model-recipe.safetensors") == models.output
    kept = "".join(path.read_text("utf-8", "ignore") for path in (tmp_path / "out").iterdir())
    assert "Signature" not in kept + ran.out + ran.err
    assert SECRET not in kept + ran.out + ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", f"s3://{BUCKET}/out"), "--records FOLDER says"),
        (("--out", "out", "--records", "records"), "--records is for a DIR that is a URL"),
        (("--out", "https://127.0.0.1/out", "--records", "r"), "only s3:// and gs://"),
    ],
)
def test_where_a_batchs_record_lies(
    models: Models,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("batch", models.recipe, models.of("model.safetensors"), *words)
    assert ran.code == 2
    assert message in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [("--help",), ("inspect", "--help")])
def test_help_needs_no_store(args: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom erasepro_convert.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'fsspec', 'upath', 's3fs', 'aiohttp'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


def test_an_object_that_is_not_there_is_wrong_usage(cli: Cli, models: Models) -> None:
    for command in (("probe", models.recipe), ("suggest",)):
        words = () if len(command) > 1 else ("word",)
        ran = cli(*command, "memory://models/none.safetensors", *words)
        assert ran.code == 2
        assert ran.err == "error: memory://models/none.safetensors: there is no such object\n"


class TransportError(Exception):
    """Stands for httpx's."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TransportError(SECRET), "the connection failed"),
        (IsADirectoryError(SECRET), "its library failed"),
    ],
)
def test_what_a_stores_library_raises_has_words(error: Exception, words: str) -> None:
    with pytest.raises(StorageError) as caught, translating_errors(locate("memory://models/x")):
        raise error
    assert str(caught.value).startswith(f"memory://models/x: {words}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError(SECRET), "cannot be read from this address alone (TypeError)"),
        (ImportError(SECRET, name="pyarrow"), "needs the library pyarrow, which is not installed"),
    ],
)
def test_what_a_library_makes_nothing_of_is_wrong_usage(error: Exception, words: str) -> None:
    with pytest.raises(UsageError) as caught, translating_errors(locate("memory://models/x")):
        raise error
    assert f"memory://models/x: memory:// {words}; download the file first" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("hf://127.0.0.1:9/b/x.safetensors", "hf:// cannot be read from this address alone"),
        ("generic://b/x.safetensors", "generic:// cannot be read from this address alone"),
        ("dir://b/x.safetensors", "dir:// cannot be read from this address alone"),
        ("foo://b/x.safetensors", "foo:// is not known"),
    ],
)
def test_another_scheme_says_what_to_give_instead(url: str, told: str, cli: Cli) -> None:
    """What fsspec knows and what it does not; none of them asks the network."""
    scheme, _, rest = url.partition("://")
    ran = cli("inspect", f"{scheme}://user:{SECRET}@{rest}")
    assert ran.code == 2
    assert told in ran.err
    assert "; download the file first, or give its s3://, gs:// or https:// address" in ran.err
    assert SECRET not in ran.err
