"""Google, Azure and HTTP: what obstore is told, and a server that is read and not listed."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from servers import http_server

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, ChunkReadError, PathNotFoundError
from scout_dask_io.files.bucket import Bucket, Host
from scout_dask_io.files.clouds import AZURE, GOOGLE, HTTP
from scout_dask_io.files.location import as_remote, locate

pytest.importorskip("obstore")
DATA = np.arange(8 * 12 * 16, dtype="u2").reshape(8, 12, 16)
# In the place of a real one, of 32 bytes.
ACCOUNT_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with ranges or without, and no lists."""

    ranges = True
    failing: ClassVar[list[int]] = []  # what the next requests are answered with
    seen: list[tuple[str, str, str]]

    def log_message(self, *_: Any) -> None:
        pass

    def list_directory(self, path: Any) -> None:
        self.send_error(403)

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.seen.append(("GET", self.path, span))
        if self.failing:
            self.send_error(self.failing.pop())
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        if self.ranges and span.startswith("bytes="):
            first, _, last = span[6:].partition("-")
            start = int(first) if first else max(0, len(data) - int(last))
            stop = min(int(last) + 1, len(data)) if first and last else len(data)
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            data = data[start:stop]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        self.wfile.write(data)


def certificate(folder: Path, *, by_itself: bool) -> tuple[Path, Path, Path]:
    """Make a certificate for 127.0.0.1; give it, its key, and that of who signed it."""
    if by_itself:
        pem, secret = folder / "cert.pem", folder / "key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        pem.write_bytes(_signed(key, key, is_ca=True).public_bytes(_PEM))
        secret.write_bytes(_private(key))
        return pem, secret, pem
    above, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root, pem, secret = folder / "root.pem", folder / "cert.pem", folder / "key.pem"
    root.write_bytes(_signed(above, above, is_ca=True).public_bytes(_PEM))
    pem.write_bytes(_signed(key, above, is_ca=False).public_bytes(_PEM))
    secret.write_bytes(_private(key))
    return pem, secret, root


_PEM = serialization.Encoding.PEM


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(_PEM, form, serialization.NoEncryption())


def _signed(
    key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, is_ca: bool
) -> x509.Certificate:
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    leaf = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaf")])
    limits = x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None)
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(issuer if is_ca else leaf)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1 + is_ca)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(limits, critical=True)
        .sign(by, hashes.SHA256())
    )


@contextmanager
def serving(
    folder: Path, tls: Path | None = None, *, ranges: bool = True, by_itself: bool = True
) -> Iterator[Any]:
    kind = type("Own", (Handler,), {"ranges": ranges, "seen": []})
    options: dict[str, Any] = {}
    context = None
    if tls is not None:
        pem, secret, root = certificate(tls, by_itself=by_itself)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, secret)
        context.sni_callback = lambda *_: kind.seen.append(("TLS", "", ""))
        options = {"client_options": {"root_certificate": root.read_bytes()}}
    with http_server(partial(kind, directory=str(folder)), context) as address:
        yield address, options, kind.seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    io.write_zarr(place / "v2.zarr", DATA, (4, 6, 8))
    io.write_zarr(place / "v3.zarr", DATA, (4, 6, 8), zarr_format=3)
    io.write_zarr(place / "shards.zarr", DATA, (4, 6, 8), zarr_format=3, shards=(8, 12, 8))
    io.write_ome_zarr(place / "image.zarr", DATA, (4, 6, 8), axes="zyx")
    tifffile.imwrite(place / "stack.tif", DATA, photometric="minisblack")
    return place


@pytest.mark.parametrize("name", ["v2.zarr", "v3.zarr", "shards.zarr", "image.zarr"])
@pytest.mark.parametrize(("tls", "ranges"), [(True, True), (False, True), (False, False)])
def test_arrays_are_read_from_a_server_that_lists_nothing(
    site: Path, tmp_path: Path, name: str, tls: bool, ranges: bool
) -> None:
    with serving(site, tmp_path if tls else None, ranges=ranges) as (base, options, _):
        lazy = io.read_zarr(f"{base}/{name}", storage_options=options)
        np.testing.assert_array_equal(lazy.compute(), DATA)
        np.testing.assert_array_equal(lazy[3:5, 2, ::3].compute(), DATA[3:5, 2, ::3])
        assert io.info(f"{base}/{name}", storage_options=options).shape == DATA.shape
        with pytest.raises(PathNotFoundError, match="absent"):
            io.read_zarr(f"{base}/absent.zarr", storage_options=options)


def test_a_certificate_that_nobody_vouches_for_is_an_error(site: Path, tmp_path: Path) -> None:
    with serving(site, tmp_path) as (base, _, seen):
        with pytest.raises(ChunkReadError, match=r"cannot be read.*ertificate"):
            io.read_zarr(f"{base}/v2.zarr")
        # It is not taken if asked for again: obstore asks once, and Python once, on 3.14 twice.
        seen.clear()
        client = as_remote(locate(base, {"headers": {"a": "b"}})).client
        with pytest.raises(OSError, match="ertificate"):
            client.get(f"{base}/stack.tif")
        assert [kind for kind, _, _ in seen] in (["TLS"] * 2, ["TLS"] * 3)


def test_a_server_that_stumbles_at_first_is_asked_again(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(site, tmp_path, by_itself=False) as (base, options, _):
        failing = [503, 503]
        monkeypatch.setattr(Handler, "failing", failing)
        client = as_remote(locate(base, options)).client
        found, _ = client.get(f"{base}/stack.tif")
        assert (bytes(found), failing) == ((site / "stack.tif").read_bytes(), [])


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_tiff_is_read_by_ranges_over_https(site: Path, tmp_path: Path, by_itself: bool) -> None:
    with serving(site, tmp_path, by_itself=by_itself) as (base, options, seen):
        client = as_remote(locate(base, options)).client
        lazy = io.imread(f"{base}/stack.tif", storage_options=options)
        np.testing.assert_array_equal(lazy[2:4].compute(), DATA[2:4])
        assert all(span for kind, _, span in seen if kind == "GET")
        assert isinstance(client, Host)
        assert (client._by_python is not None) == by_itself


def test_headers_are_sent_and_stay_out_of_messages(site: Path) -> None:
    with serving(site) as (base, _, _):
        options = {"headers": {"Authorization": "Bearer hush-hush"}}
        place = as_remote(locate(f"{base}/v2.zarr", options))
        assert isinstance(place.client, Bucket)
        assert "hush" not in f"{place!r} {place.client!r}"
        assert io.read_zarr(str(place), storage_options=options).shape == DATA.shape


@pytest.mark.parametrize(
    ("url", "options", "known"),
    [
        ("gs://b/a.zarr", {"tokken": "hush"}, "Known are token, anon"),
        ("az://c/a.zarr", {"account": "hush"}, "Known are account_name, account_key"),
        ("https://host/a.zarr", {"header": {"a": "hush"}}, "Known are headers"),
        ("http://host/a.zarr", {"key": "hush"}, "Known are headers"),
    ],
)
def test_an_option_that_is_not_known_names_those_that_are(
    url: str, options: dict[str, Any], known: str
) -> None:
    with pytest.raises(ArgumentError, match=known) as caught:
        locate(url, options)
    assert next(iter(options)) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_what_obstore_is_told_of_google_and_azure(tmp_path: Path) -> None:
    keys = tmp_path / "key.json"
    keys.write_text("{}")
    found = GOOGLE.settings_of({"token": "anon", "project": "p", "endpoint_url": "http://h:1/"})
    assert found is not None
    assert (found["skip_signature"], found["base_url"]) == (True, "http://h:1")
    assert found["client_options"]["allow_http"] is True
    assert GOOGLE.settings_of({"token": str(keys)})["application_credentials"] == str(keys)  # type: ignore[index]
    assert json.loads(GOOGLE.settings_of({"token": {"a": 1}})["service_account_key"]) == {"a": 1}  # type: ignore[index]
    assert GOOGLE.settings_of({"token": "browser"}) is None
    assert GOOGLE.settings_of({"session_kwargs": {"trust_env": True}}) is None
    told = AZURE.settings_of({"account_name": "n", "sas_token": "s", "anon": False})
    assert told is not None
    assert (told["account_name"], told["sas_key"]) == ("n", "s")
    assert "skip_signature" not in told
    assert AZURE.settings_of({"credential": object()}) is None
    assert HTTP.settings_of({"auth": ("a", "b")}) is None


def test_buckets_and_containers_are_reached_by_obstore() -> None:
    google = as_remote(locate("gs://b/a.zarr", {"token": "anon"}))
    assert isinstance(google.client, Bucket)
    assert google.client.protocols == ("gs", "gcs")
    options = {"account_name": "n", "account_key": ACCOUNT_KEY}
    place = as_remote(locate("az://c/a.zarr", options))
    assert isinstance(place.client, Bucket)
    assert place.client.key_of(place.url) == "c/a.zarr"
    assert ACCOUNT_KEY not in f"{place!r}{place.client!r}{vars(place.client)!r}"


LAB = "DefaultEndpointsProtocol=https;AccountName=lab;AccountKey=aHVzaA==;"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LAB, {"account_name": "lab", "account_key": "aHVzaA=="}),
        (
            f"{LAB}EndpointSuffix=core.windows.net",
            {
                "account_name": "lab",
                "account_key": "aHVzaA==",
                "endpoint": "https://lab.blob.core.windows.net",
            },
        ),
        (
            "BlobEndpoint=http://127.0.0.1:1/lab;AccountName=lab;SharedAccessSignature=sv=1&sig=a=",
            {"account_name": "lab", "endpoint": "http://127.0.0.1:1/lab", "sas_key": "sv=1&sig=a="},
        ),
        (
            "UseDevelopmentStorage=true",
            {"account_name": "devstoreaccount1", "use_emulator": True},
        ),
    ],
)
def test_a_connection_string_of_azure_is_told_by_its_parts(
    monkeypatch: pytest.MonkeyPatch, text: str, told: dict[str, Any]
) -> None:
    found = AZURE.settings_of({"connection_string": text})
    assert found is not None
    assert {k: v for k, v in found.items() if k not in ("client_options", "retry_config")} == told
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert AZURE.settings_of({}) == found
    assert (AZURE.settings_of({"account_name": "x"}) or {})["account_name"] == "x"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")
    assert (AZURE.settings_of({}) or {}).keys() == {"client_options", "retry_config"}


def test_a_connection_string_without_an_account_is_not_in_the_message() -> None:
    with pytest.raises(ArgumentError, match="has no AccountName") as caught:
        locate("az://c/a.zarr", {"connection_string": "AccountKey=hush"}).exists()
    assert "hush" not in str(caught.value)
