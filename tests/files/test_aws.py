"""The environment and the files of AWS: where a bucket is, and whose keys open it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files import aws

DATA = np.arange(6 * 8 * 10, dtype="u2").reshape(6, 8, 10)
PLACES = {
    "of the profile": "[profile lab]\nregion = eu-west-3\nendpoint_url = {}\n",
    "of a service": (
        "[profile lab]\nregion = eu-west-3\nservices = mine\n"
        "[services mine]\ns3 =\n  endpoint_url = {}\n"
    ),
}


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
        "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
        "no_proxy", "NO_PROXY", "HTTPS_PROXY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))


def says(tmp_path: Path, config: str, profile: str = "lab") -> None:
    (tmp_path / "AWS_CONFIG_FILE").write_text(config)
    keys = f"[{profile}]\naws_access_key_id = test\naws_secret_access_key = test\n"
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(keys)


def completed(**settings: Any) -> dict[str, Any]:
    aws.complete("b", settings, settings.pop("profile", None), "s3://b/a.zarr")
    return settings


@pytest.mark.parametrize("place", PLACES)
def test_a_profile_says_where_its_server_is_and_has_the_keys(
    tmp_path: Path, lab: Lab, place: str
) -> None:
    pytest.importorskip("obstore")
    says(tmp_path, PLACES[place].format(lab.address))
    options = {"profile": "lab"}
    io.write_zarr(lab.url, DATA, axes="zyx", chunks=4, storage_options=options)
    found = io.read_zarr(lab.url, storage_options=options).compute()
    np.testing.assert_array_equal(found, DATA)
    np.testing.assert_array_equal(lab.by_zarr(), DATA)


def test_a_profile_is_taken_from_the_environment_too(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    says(tmp_path, PLACES["of the profile"].format(lab.address))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    # Options that name nothing: buckets are kept by what they are asked with.
    options = {"anon": False, "max_paths": 7}
    io.write_zarr(lab.url, DATA, axes="zyx", chunks=4, storage_options=options)
    np.testing.assert_array_equal(lab.by_zarr(), DATA)


def test_options_come_before_the_environment_and_that_before_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(tmp_path, PLACES["of the profile"].format("http://of-the-profile"))
    found = completed(profile="lab")
    assert (found["endpoint"], found["region"]) == ("http://of-the-profile", "eu-west-3")
    assert found["credential_provider"]()["access_key_id"] == "test"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-all")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    found = completed(profile="lab")
    assert (found["endpoint"], found["region"]) == ("http://of-all", "eu-north-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://of-s3")
    assert completed(profile="lab")["endpoint"] == "http://of-s3"
    own = {"endpoint": "http://own", "region": "af-south-1", "access_key_id": "k"}
    assert completed(**own, profile="lab") == own


def test_files_are_not_read_where_everything_is_given(tmp_path: Path) -> None:
    (tmp_path / "AWS_CONFIG_FILE").write_text("no [configuration")
    own = {"endpoint": "http://own", "region": "af-south-1", "access_key_id": "k"}
    assert completed(**own) == own


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    says(tmp_path, "[profile lab]\n")
    with pytest.raises(ArgumentError, match=r"s3://b/a\.zarr: .*\(other\)"):
        io.read_zarr("s3://b/a.zarr", storage_options={"profile": "other"})


class _Proxy(BaseHTTPRequestHandler):
    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(403)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_region_is_asked_for_by_the_proxy_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _Proxy) as proxy:
        proxy.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        assert completed(access_key_id="k")["region"] == "us-east-1"
        proxy.shutdown()
        assert proxy.asked == ["s3.amazonaws.com:443"]  # type: ignore[attr-defined]
