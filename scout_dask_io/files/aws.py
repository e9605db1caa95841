"""What the environment and the files of AWS say of a bucket: endpoint, region, and keys.

``~/.aws/config`` and ``~/.aws/credentials``, or what ``AWS_CONFIG_FILE`` and
``AWS_SHARED_CREDENTIALS_FILE`` name, are read by botocore where it is installed, as by the AWS
CLI and by s3fs; so whoever has a profile for a server of their own need not repeat its address.
What they mean: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

import importlib.util
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from scout_dask_io.errors import ArgumentError

_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}


def complete(name: str, settings: dict[str, Any], profile: str | None, url: str) -> None:
    """Add to what obstore is told of a bucket what is not in it, and is known otherwise.

    Reads the files of AWS. Asks AWS for the region of a bucket of theirs, once, by a request
    without a key, where nothing in the environment states it.

    Raises
    ------
    ArgumentError
        If there is no such profile, or nothing here reads it.
    """
    asks_for_keys = not (
        settings.get("skip_signature")
        or "access_key_id" in settings
        or ("AWS_ACCESS_KEY_ID" in os.environ and profile is None)
    )
    is_placed = "endpoint" in settings and "region" in settings
    session = None
    if profile or asks_for_keys or (not is_placed and _has_files()):
        session = _session(profile, url)
    if session is not None and asks_for_keys:
        settings["credential_provider"] = _credentials(session)
    files, config = {}, {}
    if session is not None:
        files, config = session.full_config, session.get_scoped_config()
    if not settings.get("endpoint"):
        endpoint = _endpoint(files, config)
        if endpoint is not None:
            settings["endpoint"] = endpoint
    if "region" not in settings:
        settings["region"] = _region(name, settings, config)


def _has_files() -> bool:
    places = (os.environ.get(variable, usual) for variable, usual in _FILES.items())
    return any(os.path.exists(os.path.expanduser(place)) for place in places)


def _session(profile: str | None, url: str) -> Any | None:
    """Give what reads the files of AWS; ``None`` where it is not installed, and no profile asked.

    Raises
    ------
    ArgumentError
        If there is no such profile, or nothing here reads it.
    """
    if importlib.util.find_spec("botocore") is None:
        if profile is None:
            return None
        raise ArgumentError(
            f"{url}: profile={profile!r} takes botocore, which comes with "
            "pip install 'scout-dask-io[s3]'; or give key and secret"
        )
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=profile)
    try:
        session.get_scoped_config()
    except BotoCoreError as err:
        raise ArgumentError(f"{url}: {err}") from err
    return session


def _credentials(session: Any) -> Callable[[], dict[str, Any]]:
    """Give what finds keys as all software of AWS does."""

    def provide() -> dict[str, Any]:
        found = session.get_credentials()
        if found is None:
            raise PermissionError(
                "no credentials were found: give key and secret, or a profile, "
                "or anon=True for a public bucket"
            )
        keys = found.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            # Those that end are renewed by botocore, which is asked again.
            "expires_at": datetime.now(UTC) + timedelta(minutes=10) if keys.token else None,
        }

    return provide


def _endpoint(files: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Give the server that is asked instead of AWS, by the environment or else by a profile."""
    services = files.get("services", {}).get(config.get("services"), {})
    own = services.get("s3", {})
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or (own.get("endpoint_url") if isinstance(own, dict) else None)
        or config.get("endpoint_url")
    )


def _region(name: str, settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Give the region of a bucket: as the environment has it, or as AWS says without a key.

    The region of a profile is where new buckets go, and on AWS not where all of them are.
    """
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if os.environ.get(variable):
            return os.environ[variable]
    usual = str(config.get("region") or "us-east-1")
    if settings.get("endpoint"):
        return usual  # most software's servers take any
    asked = urllib.request.Request(f"https://s3.amazonaws.com/{name}", method="HEAD")
    try:
        with urllib.request.build_opener().open(asked, timeout=10) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as err:  # whom it is forbidden is told it too
        headers = err.headers
    except OSError:
        return usual
    return headers.get("x-amz-bucket-region") or usual
