"""Signatures: made offline over file and manifest, and broken by a change of either."""

import builtins
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from erasepro_convert.demo import checkpoint
from tests.conftest import Cli
from tests.keys import encoded, public, write_pair


def signed(cli: Cli, recipe: Path, source: Path, target: Path, keys: Path) -> None:
    ran = cli("--quiet", "--sign", keys / "key.pem", recipe, source, target)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.slow
def test_a_signature_covers_file_and_manifest(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    signed(cli, van_gogh, checkpoint_file, target, keys)
    record, bundle = tmp_path / "out.manifest.json", tmp_path / "out.sig"
    assert json.loads(bundle.read_text())["mediaType"].startswith("application/vnd.dev.sigstore")
    assert cli("verify", target, "--key", keys / "key.pub").code == 0
    ran = cli("verify", "--json", target, "--key", keys / "other.pub")
    assert ran.code == 5
    assert [finding["kind"] for finding in json.loads(ran.out)["findings"]] == ["signature"]

    manifest = record.read_text()
    forged = json.loads(manifest)
    forged["varies_between_runs"]["started"] = "2000-01-01T00:00:00+00:00"
    record.write_text(json.dumps(forged, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert cli("verify", target).code == 0, "control: nothing else covers this entry"
    assert "signature" in cli("verify", target, "--key", keys / "key.pub").out
    record.write_text(manifest)

    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    assert "signature: out.sig" in cli("verify", target, "--key", keys / "key.pub").out
    content[-1] ^= 1
    target.write_bytes(content)
    assert cli("verify", target, "--key", keys / "key.pub").code == 0
    bundle.write_text(bundle.read_text().replace("payload", "payroll"))
    assert cli("verify", target, "--key", keys / "key.pub").code == 5
    bundle.unlink()
    assert "missing" in cli("verify", target, "--key", keys / "key.pub").out


@pytest.mark.slow
def test_a_signed_folder(cli: Cli, van_gogh: Path, keys: Path, tmp_path: Path) -> None:
    with checkpoint() as source:
        signed(cli, van_gogh, source, f"{tmp_path}/out/", keys)  # type: ignore[arg-type]
    folder = tmp_path / "out"
    assert (folder / "model.sig").exists()
    ran = cli("verify", folder, "--key", keys / "key.pub")
    assert (ran.code, ran.err) == (0, "")
    (folder / "unet/extra.py").write_text("import os")
    assert "Extra files" in cli("verify", folder, "--key", keys / "key.pub").out


@pytest.mark.slow
def test_the_old_signature_does_not_stay_beside_a_new_file(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    signed(cli, van_gogh, checkpoint_file, target, keys)
    ran = cli("--force", van_gogh, checkpoint_file, target)
    assert ran.code == 2
    assert "out.sig: signs an output of before" in ran.err
    ran = cli("--force", "--sign", keys / "other.pem", van_gogh, checkpoint_file, target)
    assert ran.code == 0
    assert cli("verify", target, "--key", keys / "other.pub").code == 0


def certificate(
    name: str, key: Any, issuer: x509.Certificate | None, issuer_key: Any
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    is_root = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root,
                key_cert_sign=is_root,
                crl_sign=is_root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if not is_root:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.mark.slow
def test_signing_with_a_certificate(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Root", root_key, None, root_key)
    leaf = certificate("Releaser", key, root, root_key)
    stranger = certificate("Stranger", root_key, None, root_key)
    (tmp_path / "key.pem").write_bytes(encoded(key))
    for name, made in (("root", root), ("leaf", leaf), ("stranger", stranger)):
        (tmp_path / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    target = tmp_path / "out.safetensors"
    options = ("--sign", tmp_path / "key.pem", "--certificate", tmp_path / "leaf.crt")
    chain = ("--chain", tmp_path / "root.crt")
    ran = cli("--quiet", *options, *chain, van_gogh, checkpoint_file, target)
    assert (ran.code, ran.err) == (0, "")
    assert cli("verify", target, "--certificate", tmp_path / "root.crt").code == 0
    assert cli("--quiet", "--force", *options, van_gogh, checkpoint_file, target).code == 0
    assert cli("verify", target, "--certificate", tmp_path / "root.crt").code == 0, "no --chain"
    assert cli("verify", target, "--certificate", tmp_path / "stranger.crt").code == 5


def test_what_is_no_key_is_refused_before_any_work(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.pem").write_text("nonsense")
    target = tmp_path / "out.safetensors"
    for key in ("odd.pem", "none.pem"):
        ran = cli("--sign", tmp_path / key, van_gogh, checkpoint_file, target)
        assert ran.code == 2
        assert "no key to sign with" in ran.err
    assert cli("--certificate", tmp_path / "x", van_gogh, checkpoint_file, target).code == 2
    assert not target.exists()


EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
NO_KEYS = {
    "RSA": (encoded(RSA), public(RSA)),
    "Ed25519": (encoded(edwards := ed25519.Ed25519PrivateKey.generate()), public(edwards)),
    "another curve": (encoded(bitcoin := ec.generate_private_key(ec.SECP256K1())), public(bitcoin)),
    "encrypted": (encoded(EC, password=b"secret"), encoded(EC, password=b"secret")),
    "DER": (encoded(EC, der=True), encoded(EC, der=True)),
    "the other half": (public(EC), encoded(EC)),
    "a certificate": 2 * (certificate("x", EC, None, EC).public_bytes(serialization.Encoding.PEM),),
    "empty": (b"", b""),
}


@pytest.mark.parametrize("kind", NO_KEYS)
@pytest.mark.slow
def test_keys_that_cannot_be_used_are_refused_in_words(
    kind: str, cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    """At once: neither a conversion nor a batch begins, and no file is verified in vain."""
    private, other = tmp_path / "private", tmp_path / "public"
    for path, content in zip((private, other), NO_KEYS[kind], strict=True):
        path.write_bytes(content)
    target = tmp_path / "out.safetensors"
    curves = "on P-256, P-384 or P-521 in PEM"
    said = f"error: {private}: no key to sign with: it should be an EC private key {curves}"
    folder = tmp_path / "batch"
    for command in (
        (van_gogh, checkpoint_file, target),
        ("batch", van_gogh, checkpoint_file, "--out", folder),
    ):
        ran = cli(*command, "--sign", private)
        assert ran.code == 2
        assert ran.err.startswith(said)
    assert not target.exists()
    assert not folder.exists()
    signed(cli, van_gogh, checkpoint_file, target, keys)
    ran = cli("verify", target, "--key", other)
    assert (ran.code, ran.out) == (2, "")
    said = f"error: {other}: no key to verify with: it should be an EC public key {curves}\n"
    assert ran.err == said


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
@pytest.mark.slow
def test_larger_curves_sign_too(
    curve: type[ec.EllipticCurve], cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    write_pair(tmp_path, "key", curve)
    target = tmp_path / "out.safetensors"
    signed(cli, van_gogh, checkpoint_file, target, tmp_path)
    assert cli("verify", target, "--key", tmp_path / "key.pub").code == 0


@pytest.mark.slow
def test_a_signature_of_the_other_kind_is_named(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    """Key and certificate exclude one another, when given and when signed by."""
    root = tmp_path / "root.crt"
    made = certificate("Root", EC, None, EC).public_bytes(serialization.Encoding.PEM)
    root.write_bytes(made)
    (tmp_path / "key.pem").write_bytes(encoded(EC))
    by_key, by_holder = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    signed(cli, van_gogh, checkpoint_file, by_key, keys)
    asked = ("--quiet", "--sign", tmp_path / "key.pem", "--certificate", root)
    assert cli(*asked, van_gogh, checkpoint_file, by_holder).code == 0
    both = cli("verify", by_key, "--key", keys / "key.pub", "--certificate", root)
    assert both.code == 2
    assert both.err.startswith("error: --key and --certificate exclude one another")
    for target, option in (
        (by_key, ("--certificate", root)),
        (by_holder, ("--key", keys / "key.pub")),
    ):
        ran = cli("verify", "--json", target, *option)
        assert ran.code == 5
        (finding,) = json.loads(ran.out)["findings"]
        assert option[0] in finding["expected"]
        assert "--key" in finding["found"] or "--certificate" in finding["found"]
        assert finding["expected"] != finding["found"]


@pytest.mark.slow
def test_certificates_that_are_none_are_named(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, keys: Path, tmp_path: Path
) -> None:
    target, odd = tmp_path / "out.safetensors", tmp_path / "odd.crt"
    odd.write_text("nonsense")
    asked = ("--sign", keys / "key.pem")
    files = (van_gogh, checkpoint_file, target)
    for path, why in ((odd, "it should be an X.509 certificate in PEM"), (tmp_path / "none", "No")):
        ran = cli(*asked, "--certificate", path, *files)
        assert ran.code == 2
        assert ran.err.startswith(f"error: {path}: no certificate: {why}")
    assert "--certificate, which is not given" in cli(*asked, "--chain", odd, *files).err
    assert not target.exists()
    signed(cli, van_gogh, checkpoint_file, target, keys)
    ran = cli("verify", target, "--certificate", odd)
    assert (ran.code, ran.out) == (2, "")
    assert f"{odd}: no certificate" in ran.err


def test_without_the_libraries_a_sentence_says_what_to_install(
    cli: Cli,
    van_gogh: Path,
    checkpoint_file: Path,
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "model_signing":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    ran = cli("--sign", keys / "key.pem", van_gogh, checkpoint_file, tmp_path / "x.safetensors")
    assert ran.code == 2
    assert "pip install 'erasepro-convert[sign]'" in ran.err
