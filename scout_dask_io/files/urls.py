"""URLs, the file systems of fsspec behind them, and the secrets that it takes to reach these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from scout_dask_io.errors import ArgumentError

__all__ = ["file_system", "is_url", "without_secrets"]

# Names of options whose values are never shown.
_SECRET = re.compile("key|secret|token|pass|cred|sas|signature|connection_string|user|account")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_url(path: Any) -> bool:
    """Tell whether a path is a URL: text that begins with ``scheme://``, of a scheme of fsspec.

    Anything else is local: a ``Path``, and text with ``::`` in it, which fsspec
    would take for a chain of places.
    """
    if not isinstance(path, str) or "::" in path:
        return False
    match = _SCHEME.match(path)
    return match is not None and match[1] in fsspec.available_protocols()


def file_system(url: str, options: Mapping[str, Any]) -> Any:
    """Give the file system of fsspec that a URL is in. Listings are not kept: others write too.

    Raises
    ------
    ArgumentError
        If its library is not installed, or the options do not fit.
    """
    try:
        return url_to_fs(url, **{"use_listings_cache": False, **options})[0]
    except ImportError as err:
        raise ArgumentError(
            f"{url} needs a library that is not installed: {err}. For s3:// it comes "
            "with pip install 'scout-dask-io[s3]'."
        ) from err
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"{url}: storage_options do not fit: {err}") from err


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """Give a text in which the values of secret options are stars."""
    for secret in sorted(_secrets(options), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) > 3 and _SECRET.search(name.lower()):
            yield value
