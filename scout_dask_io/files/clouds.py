"""Buckets of Google, containers of Azure, and servers of HTTP: what obstore is told of each.

Of fsspec's options the common ones are taken by the names that they have there, and obstore's own
as they are. What obstore cannot be told goes by fsspec's library, and what nobody knows is an
error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from scout_dask_io.errors import ArgumentError

#: What obstore is told, ``None`` where it cannot be told what is given.
Settings: TypeAlias = dict[str, Any] | None

_TIMEOUT = "300s"
_RETRIES = 10
_CLIENT = ("client_options", "retry_config")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Of Azure: which account it is, and what the parts of a connection string are called.
_ACCOUNT = frozenset(("account_name", "account_key", "sas_token", "sas_key", "endpoint_url"))
_CONNECTION = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
# fsspec's, which make no difference to how objects are read and written here.
_IGNORED = _words(
    "asynchronous block_size blocksize cache_options cache_regions cache_timeout cache_type "
    "consistency default_block_size default_cache_type default_fill_cache listings_expiry_time "
    "max_paths skip_instance_cache use_listings_cache"
)


@dataclass(frozen=True)
class Provider:
    """A kind of store that obstore reaches.

    Attributes
    ----------
    name : str
        What it is called in messages.
    schemes : tuple of str
        Of its URLs.
    often, rest : tuple of str
        Options that are taken, those that are mostly given first.
    of_fsspec : tuple of str
        Options that fsspec's library alone knows.
    settings : callable
        From options to what obstore is told.
    """

    name: str
    schemes: tuple[str, ...]
    often: tuple[str, ...]
    rest: tuple[str, ...]
    of_fsspec: tuple[str, ...]
    settings: Callable[[Mapping[str, Any]], Settings]

    def check(self, url: str, options: Mapping[str, Any]) -> None:
        """Refuse options that nothing here knows.

        Raises
        ------
        ArgumentError
            If there is one; the message lists those that are known.
        """
        known = {*self.often, *self.rest, *self.of_fsspec, *_CLIENT}
        unknown = sorted(str(name) for name in options if name not in known | {*_IGNORED})
        if unknown:
            rest = sorted(known - set(self.often))
            raise ArgumentError(
                f"{url}: storage_options has {', '.join(unknown)}, which is no option of "
                f"{self.name}. Known are {', '.join(self.often)}; and {', '.join(rest)}."
            )

    def settings_of(self, options: Mapping[str, Any]) -> Settings:
        """Give what obstore is told; ``None`` where fsspec's library must be asked."""
        given = {k: v for k, v in options.items() if v is not None and k not in _IGNORED}
        if any(name in self.of_fsspec for name in given):
            return None
        found = self.settings(given)
        if found is None:
            return None
        client = {"timeout": _TIMEOUT, **(given.get("client_options") or {})}
        if str(found.get("endpoint") or found.get("base_url") or "").startswith("http://"):
            client["allow_http"] = True
        found = {k: v for k, v in found.items() if k not in _CLIENT}
        retries = given.get("retry_config") or {"max_retries": _RETRIES}
        return {**found, "client_options": client, "retry_config": retries}


def _google(given: Mapping[str, Any]) -> Settings:
    found = dict(given)
    token = found.pop("token", None)
    found.pop("project", None)  # of whoever makes buckets
    if isinstance(token, dict):
        found["service_account_key"] = json.dumps(token)
    elif token == "anon":
        found["skip_signature"] = True
    elif isinstance(token, (str, os.PathLike)) and os.path.isfile(token):
        found["application_credentials"] = os.fspath(token)
    elif token not in (None, "google_default"):
        return None
    if found.pop("anon", False):
        found["skip_signature"] = True
    if "endpoint_url" in found:
        found["base_url"] = str(found.pop("endpoint_url")).rstrip("/")
    return found


def _azure(given: Mapping[str, Any]) -> Settings:
    found = dict(given)
    text = found.pop("connection_string", None)
    if text is None and not found.keys() & _ACCOUNT:
        # As adlfs does; obstore knows the other variables of Azure, which come first.
        is_told = any(os.environ.get(f"AZURE_STORAGE_{name.upper()}") for name in _ACCOUNT)
        text = None if is_told else os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if text is not None:
        found = {**_connection(str(text)), **found}
    if found.pop("anon", False):
        found["skip_signature"] = True
    names = {"sas_token": "sas_key", "endpoint_url": "endpoint"}
    return {names.get(name, name): value for name, value in found.items()}


def _connection(text: str) -> dict[str, Any]:
    """Give the options that a connection string of Azure stands for.

    https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string

    Raises
    ------
    ArgumentError
        If it names no account; the string, which has keys, is not in the message.
    """
    parts = dict(part.partition("=")[::2] for part in text.split(";"))
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        return {"use_emulator": True, "account_name": "devstoreaccount1"}
    found = {own: parts[name] for name, own in _CONNECTION.items() if parts.get(name)}
    if "account_name" not in found:
        raise ArgumentError(
            "the connection string of Azure, an option or AZURE_STORAGE_CONNECTION_STRING, has no "
            "AccountName: it is text such as AccountName=lab;AccountKey=...; give it, or "
            "account_name with account_key or sas_token"
        )
    if "endpoint" not in found and "EndpointSuffix" in parts:
        protocol = parts.get("DefaultEndpointsProtocol") or "https"
        host = f"{found['account_name']}.blob.{parts['EndpointSuffix']}"
        found["endpoint"] = f"{protocol}://{host}"
    return found


def _http(given: Mapping[str, Any]) -> Settings:
    found = dict(given)
    headers = found.pop("headers", None)
    if headers:
        client = dict(found.get("client_options") or {})
        found["client_options"] = client | {
            "default_headers": {**(client.get("default_headers") or {}), **headers}
        }
    return found


GOOGLE = Provider(
    "Google Cloud Storage",
    ("gs", "gcs"),
    _words("token anon project endpoint_url"),
    _words("service_account service_account_key application_credentials skip_signature base_url"),
    _words(
        "access callback_timeout check_connection default_location loop requester_pays "
        "requests_timeout secure_serialize session_kwargs timeout version_aware"
    ),
    _google,
)
AZURE = Provider(
    "Azure",
    ("az", "abfs"),
    _words("account_name account_key sas_token connection_string anon endpoint_url"),
    _words(
        "client_id client_secret tenant_id sas_key endpoint skip_signature use_emulator "
        "use_azure_cli"
    ),
    _words(
        "account_host assume_container_exists connection_timeout credential "
        "location_mode loop max_concurrency read_timeout request_session socket_timeout "
        "version_aware"
    ),
    _azure,
)
HTTP = Provider(
    "HTTP",
    ("http", "https"),
    ("headers",),
    (),
    _words(
        "auth client_kwargs cookies encoded get_client loop params proxy proxy_auth same_scheme "
        "simple_links size_policy ssl timeout trust_env verify_ssl"
    ),
    _http,
)
_BY_SCHEME = {scheme: p for p in (GOOGLE, AZURE, HTTP) for scheme in p.schemes}


def provider_of(url: str) -> Provider | None:
    """Give the provider of a URL, ``None`` of S3 and of what fsspec alone knows."""
    return _BY_SCHEME.get(url.partition("://")[0])


def store_at(provider: Provider, url: str, name: str, settings: dict[str, Any]) -> Any:
    """Give obstore's store of a bucket, container or host.

    Raises
    ------
    ArgumentError
        If the settings do not fit.
    """
    from obstore import store

    try:
        if provider is GOOGLE:
            return store.GCSStore(name, **settings)
        if provider is AZURE:
            return store.AzureStore(name, **settings)
        scheme = url.partition("://")[0]
        if scheme == "http":
            settings["client_options"]["allow_http"] = True
        return store.HTTPStore(f"{scheme}://{name}", **settings)
    except Exception as err:  # obstore has a family of errors, and Python's own
        raise ArgumentError(f"{url}: storage_options do not fit: {err}") from err
