"""Buckets, reached by obstore where it is installed: a quarter of the CPU of s3fs a request.

What of ``storage_options`` of S3 each of the two takes, and which of them is asked; of other
stores :mod:`~scout_dask_io.files.clouds` says it. obstore sends
requests from threads of ours, 32 at a time, and waits outside of Python; a forked child cannot
use it, and goes by fsspec.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files import aws
from scout_dask_io.files.clouds import HTTP, provider_of, store_at
from scout_dask_io.files.requests import WINDOW, FileSystem, RangeAnswer, settled

_T = TypeVar("_T")

SCHEMES = ("s3", "s3a")
# fsspec's options, and what obstore calls them.
_NAMES = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "anon": "skip_signature",
    "requester_pays": "request_payer",
}
# Of its ``client_kwargs``.
_CLIENT_NAMES = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
}
# obstore's own, taken as they are.
_OWN = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "endpoint",
    "region",
    "skip_signature",
    "request_payer",
    "virtual_hosted_style_request",
    "client_options",
    "retry_config",
)
_OTHER = ("profile", "client_kwargs", "config_kwargs", "use_ssl")
# What makes no difference to how objects are read and written here.
_IGNORED = (
    "asynchronous",
    "cache_regions",
    "default_block_size",
    "default_cache_type",
    "default_fill_cache",
    "listings_expiry_time",
    "max_paths",
    "skip_instance_cache",
    "use_listings_cache",
)
# s3fs alone knows these.
_OF_S3FS = (
    "fixed_upload_size",
    "loop",
    "max_concurrency",
    "s3_additional_kwargs",
    "session",
    "version_aware",
)
_RETRIES = 10
_RETRIES_OF_HALVES = 4
# A request of a large chunk over a slow line may take as long.
_TIMEOUT = "300s"
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(\w+)")
_FORBIDDEN = re.compile("status code: 40[13]")
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_ANSWER = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
# The process in which obstore was first used; its threads do not live on in a forked child.
_begun_in: list[int] = []
# Those that were reached, by name and options, with their connections.
_buckets: dict[tuple[str, str], Bucket] = {}
_MOST_BUCKETS = 32


def check_options(url: str, options: Mapping[str, Any]) -> None:
    """Refuse options that nothing here knows.

    Raises
    ------
    ArgumentError
        If there is one; the message lists those that are known.
    """
    if (provider := provider_of(url)) is not None:
        provider.check(url, options)
    if url.partition("://")[0] not in SCHEMES:
        return
    known = {*_NAMES, *_OWN, *_OTHER, *_IGNORED, *_OF_S3FS}
    unknown = sorted(str(name) for name in options if name not in known)
    if unknown:
        often = ("key", "secret", "token", "endpoint_url", "region", "profile", "anon")
        rest = sorted({*_NAMES, *_OWN, *_OTHER, *_OF_S3FS} - set(often))
        raise ArgumentError(
            f"{url}: storage_options has {', '.join(unknown)}, which is no option of S3. Known "
            f"are {', '.join(often)}; and {', '.join(rest)}."
        )


def for_s3fs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options of S3 as s3fs takes them."""
    names = {own: name for name, own in reversed(_NAMES.items())}
    found = {names.get(name, name): value for name, value in options.items()}
    region = found.pop("region", found.pop("region_name", None))
    if region is not None:
        found["client_kwargs"] = {"region_name": region, **(found.get("client_kwargs") or {})}
    for name in ("client_options", "retry_config", "virtual_hosted_style_request"):
        found.pop(name, None)
    return found


def bucket_of(url: str, options: Mapping[str, Any]) -> Bucket | None:
    """Give the bucket that a URL is in; ``None`` where fsspec is to be asked.

    Raises
    ------
    ArgumentError
        If an option is not known.
    """
    scheme, _, key = url.partition("://")
    provider = provider_of(url)
    if scheme not in SCHEMES and provider is None:
        return None
    check_options(url, options)
    if importlib.util.find_spec("obstore") is None or (_begun_in and _begun_in[0] != os.getpid()):
        return None
    # Names that obstore does not take, and what it cannot be told.
    odd = any(part in ("", ".", "..") for part in key.split("/"))
    if provider is HTTP:  # queries, and names that are encoded already
        odd = odd or any(sign in key for sign in "?#%;@")
    elif provider is not None:
        odd = odd or "@" in key
    if odd:
        return None
    name = key.partition("/")[0]
    given = (f"{scheme}://{name}", repr(sorted(options.items())))
    found = _buckets.get(given)
    if found is None:
        settings = (
            _settings(name, options, url) if provider is None else provider.settings_of(options)
        )
        if settings is None:
            return None
        _begun_in[:] = [os.getpid()]
        if provider is None:
            found = _made(name, settings, url)
        else:
            store = store_at(provider, url, name, settings)
            kind = Host if provider is HTTP else Bucket
            found = kind(name, store, store, provider.schemes)
            if isinstance(found, Host):
                found.base, found.options = f"{scheme}://{name}", dict(options)
                if scheme == "https":
                    once = {**settings, "retry_config": {"max_retries": 0}}
                    found.store = store_at(provider, url, name, once)
        _buckets[given] = found
        if len(_buckets) > _MOST_BUCKETS:
            _buckets.pop(next(iter(_buckets)), None)
    return found


def _settings(name: str, options: Mapping[str, Any], url: str) -> dict[str, Any] | None:
    """Give what obstore is told; ``None`` where it cannot be told it.

    Raises
    ------
    ArgumentError
        If there is no such profile.
    """
    found: dict[str, Any] = {}
    client_kwargs = dict(options.get("client_kwargs") or {})
    config = dict(options.get("config_kwargs") or {})
    retries = dict(config.pop("retries", None) or {})
    for ignored in ("connect_timeout", "read_timeout", "max_pool_connections"):
        config.pop(ignored, None)
    if config or set(client_kwargs) - set(_CLIENT_NAMES):
        return None
    if any(options.get(own) for own in _OF_S3FS):
        return None
    for option, value in options.items():
        if (option in _NAMES or option in _OWN) and value is not None:
            found[_NAMES.get(option, option)] = value
    for option, value in client_kwargs.items():
        found.setdefault(_CLIENT_NAMES[option], value)
    if found.pop("skip_signature", False):
        found["skip_signature"] = True
    if found.pop("request_payer", False):
        found["request_payer"] = True
    aws.complete(name, found, options.get("profile"), url)
    endpoint = found.get("endpoint", "")
    if options.get("use_ssl") is False and not endpoint:
        return None
    client = {"timeout": _TIMEOUT, **(found.get("client_options") or {})}
    if str(endpoint).startswith("http://"):
        client["allow_http"] = True
    n = int(retries.get("max_attempts", 0))
    found["client_options"] = client
    # Each of the client's tries is made again by s3fs; here there is one who tries.
    found.setdefault("retry_config", {"max_retries": 2 * n if n else _RETRIES})
    return found


def _made(name: str, settings: dict[str, Any], url: str) -> Bucket:
    from obstore.store import S3Store

    try:
        one_by_one = S3Store(name, disable_bulk_delete=True, **settings)
        return Bucket(name, S3Store(name, **settings), one_by_one)
    except Exception as err:  # obstore has a family of errors, and Python's own
        raise ArgumentError(f"{url}: storage_options do not fit: {err}") from err


class Bucket:
    """One bucket, as the requests that are made to it: see :class:`~.requests.Client`."""

    at_once = WINDOW

    def __init__(
        self, name: str, store: Any, one_by_one: Any, protocols: tuple[str, ...] = SCHEMES
    ) -> None:
        self.name, self.store, self._one_by_one = name, store, one_by_one
        self.protocols = protocols

    def key_of(self, url: str) -> str:
        """Give the bucket and the name in it."""
        return url.partition("://")[2].rstrip("/")

    def _path(self, key: str) -> str:
        return key[len(self.name) + 1 :]

    def get(self, key: str, start: int = 0, stop: int | None = None) -> RangeAnswer:
        """Give an object's bytes between offsets, and what the answer said of it."""
        import obstore

        span: Any = None
        if stop is not None:
            span = {"range": (start, stop)}
        elif start:
            span = {"range": {"offset": start} if start > 0 else {"suffix": -start}}

        def ask() -> RangeAnswer:
            found = obstore.get(self.store, self._path(key), options=span)
            return memoryview(found.bytes()), self._entry(found.meta)

        def ask_for_more() -> RangeAnswer:
            # A server that gives no ranges, or none that count from the end.
            found = obstore.get(self.store, self._path(key))
            return memoryview(found.bytes())[start:stop], self._entry(found.meta)

        try:
            return _asked_again(ask)
        except NotImplementedError:
            return _asked_again(ask_for_more)

    def begin(self, key: str, start: int = 0, stop: int | None = None) -> Future[RangeAnswer]:
        """Ask for what :meth:`get` gives, and do not wait for it."""
        return _pool().submit(self.get, key, start, stop)

    def get_many(self, keys: Sequence[str], limit: int | None = None) -> list[Any]:
        """Give objects, or their first bytes; what one raises stands in its place."""
        if len(keys) == 1:
            return settled([lambda: self.get(keys[0], 0, limit)[0]])
        begun = [self.begin(key, 0, limit) for key in keys]
        return settled([lambda b=b: b.result()[0] for b in begun])  # type: ignore[misc]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[RangeAnswer]:
        """Give the bytes between offsets of an object, asked for at once."""
        if len(ranges) == 1:
            return [self.get(key, *ranges[0])]
        return [b.result() for b in [self.begin(key, *span) for span in ranges]]

    def about(self, key: str) -> dict[str, Any]:
        """Give what the store says of an object; a bucket is none."""
        import obstore

        if not self._path(key):
            raise FileNotFoundError(f"{key} is a bucket and no object")
        return _asked_again(lambda: self._entry(obstore.head(self.store, self._path(key))))

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Write an object whole."""
        import obstore

        mode: Any = "create" if new else "overwrite"
        with _own_errors():
            obstore.put(self.store, self._path(key), data, mode=mode, use_multipart=False)

    def remove(self, keys: Sequence[str]) -> list[Any]:
        """Remove objects, a thousand a request; what one raises stands in its place."""
        import obstore

        if len(keys) > 1:
            try:
                obstore.delete(self.store, [self._path(key) for key in keys])
                return []
            except Exception:  # a store without the request, or one object of many
                pass

        def one(key: str) -> None:
            with _own_errors():
                obstore.delete(self._one_by_one, self._path(key))

        begun = [_pool().submit(one, key) for key in keys]
        return settled([b.result for b in begun])

    def below(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of all objects below a key."""
        import obstore

        def ask() -> list[dict[str, Any]]:
            listed = obstore.list(self.store, self._path(key) or None, chunk_size=1000)
            return [self._entry(meta) for some in listed for meta in some]

        found = _asked_again(ask)
        # An empty one may stand for a folder: obstore takes the slash off its name.
        empty = [entry["name"] for entry in found if not entry["size"]]
        heads = [_pool().submit(self.about, name) for name in empty]
        answers = settled([head.result for head in heads])
        gone = {n for n, a in zip(empty, answers, strict=True) if isinstance(a, FileNotFoundError)}
        return [entry for entry in found if entry["name"] not in gone]

    def children(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of what lies directly below a key."""
        import obstore

        found = _asked_again(
            lambda: obstore.list_with_delimiter(self.store, self._path(key) or None)
        )
        folders = [
            {"name": f"{self.name}/{name}", "type": "directory", "size": 0}
            for name in found["common_prefixes"]
        ]
        return [*folders, *(self._entry(meta) for meta in found["objects"])]

    def copy(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the store copy objects."""
        import obstore

        def one(source: str, to: str) -> None:
            with _own_errors():
                obstore.copy(self.store, self._path(source), self._path(to))

        for begun in [_pool().submit(one, *pair) for pair in pairs]:
            begun.result()

    def _entry(self, meta: Any) -> dict[str, Any]:
        """Give what is said of an object by the names that s3fs has for it."""
        return {
            "name": f"{self.name}/{meta['path']}",
            "type": "file",
            "size": meta["size"],
            "ETag": meta["e_tag"],
            "LastModified": meta["last_modified"],
        }


class NoBucketError(OSError):
    """There is no such bucket, which is more than that an object is not there."""


class CertificateError(OSError):
    """A server's certificate is not one that is trusted here."""


class Host(Bucket):
    """A server of HTTP, which has no lists: its pages are read for links, by fsspec.

    A certificate that the client does not take, as it takes none that signs itself and is named
    as trusted, is held against what Python trusts. The client would ask a server again and again
    whose certificate it does not take, for seconds: before it has once been answered, it asks once.
    """

    base: str
    options: dict[str, Any]
    _by_python: FileSystem | None = None

    def get(self, key: str, start: int = 0, stop: int | None = None) -> RangeAnswer:
        """Give an object's bytes between offsets, and what the answer said of it."""
        return self._asked(lambda: super(Host, self).get(key, start, stop), "get", key, start, stop)

    def about(self, key: str) -> dict[str, Any]:
        """Give what the server says of an object."""
        return self._asked(lambda: super(Host, self).about(key), "about", key)

    def _asked(self, ask: Callable[[], _T], name: str, *args: Any) -> _T:
        if self._by_python is None:
            try:
                return self._patiently(ask)
            except CertificateError:
                self._by_python = self._pages()
        found: _T = getattr(self._by_python, name)(*args)
        return found

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Ask, and again as often as is set where the certificate is not what is wrong."""
        if self.store is not self._one_by_one:
            try:
                found = ask()
            except CertificateError:
                raise
            except OSError:
                self.store = self._one_by_one
            else:
                self.store = self._one_by_one
                return found
        return ask()

    def key_of(self, url: str) -> str:
        """Give the URL, as fsspec does."""
        return url.rstrip("/")

    def _path(self, key: str) -> str:
        return key[len(self.base) + 1 :]

    def below(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of what links lead to, below a URL and below these."""
        return self._pages().below(key)

    def children(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of what links of a page lead to."""
        return self._pages().children(key)

    def _pages(self) -> FileSystem:
        import fsspec

        client = self.options.get("client_options") or {}
        headers = {**(client.get("default_headers") or {}), **(self.options.get("headers") or {})}
        more: dict[str, Any] = {"headers": headers} if headers else {}
        if "root_certificate" in client:
            own = client["root_certificate"]
            known = own if isinstance(own, str) else bytes(own).decode()
            more["ssl"] = ssl.create_default_context(cadata=known)
        return FileSystem(fsspec.filesystem("http", use_listings_cache=False, **more))

    def _entry(self, meta: Any) -> dict[str, Any]:
        return {**super()._entry(meta), "name": f"{self.base}/{meta['path']}"}


def _asked_again(ask: Callable[[], _T]) -> _T:
    """Ask what changes nothing, and again where the answer was cut off.

    obstore makes a request again that fails, and not one whose refusal came by half: of an object
    that is not there, for instance.
    """
    for n in range(_RETRIES_OF_HALVES):
        try:
            with _own_errors():
                return ask()
        except OSError as err:
            if "body error" not in str(err) and "decoding" not in str(err):
                raise
            time.sleep(0.05 * 2**n)
    with _own_errors():
        return ask()


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise Python's errors for those of obstore that have one, without the debugging text."""
    from obstore import exceptions

    forbidden = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    try:
        yield
    except (FileNotFoundError, exceptions.BaseError, ValueError) as err:
        text = _in_short(str(err).partition("\n\nDebug source:")[0])
        kind: type[Exception] = OSError
        if "NoSuchBucket" in text:
            kind = NoBucketError
            text = (
                "there is no such bucket: check its name, or make it by what administers the store"
            )
        elif isinstance(err, FileNotFoundError):
            kind = FileNotFoundError
        elif isinstance(err, forbidden) or _FORBIDDEN.search(text):  # of lists it says so in words
            kind = PermissionError
        elif (fault := _CERTIFICATE.search(str(err))) is not None:
            kind, text = CertificateError, f"{text}: its certificate is not trusted ({fault[1]})"
        elif isinstance(err, exceptions.NotSupportedError):
            kind = NotImplementedError
        elif isinstance(err, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
            kind = FileExistsError
        raise kind(text) from None


def _in_short(text: str) -> str:
    """Give an error's text with what the server says of it in words, for its XML."""
    before, xml, after = text.partition("<?xml")
    found = _ANSWER.search(after)
    if not xml or found is None:
        return text
    code, message = found.groups()
    return f"{before.rstrip(': ')}: {code}" + (f", {message}" if message else "")


@lru_cache
def _pool() -> ThreadPoolExecutor:
    # Two reads at a time have a window each.
    return ThreadPoolExecutor(2 * WINDOW, thread_name_prefix="scout-request")


in_forked_child(_pool.cache_clear)
in_forked_child(_buckets.clear)
