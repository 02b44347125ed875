"""Where files are: local paths and URLs, and the file systems behind them."""

import os
import re
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import fsspec
from pydantic import Field, field_validator

from pipeline.config import Section
from pipeline.redact import shown_uri

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class StorageConfig(Section):
    """How object storage and web servers are reached. Credentials come from the environment or a profile.

    Attributes:
        endpoint_url: Address of an S3-compatible server; None: AWS, or what AWS_ENDPOINT_URL says.
        region: Region of the bucket; None: what the environment says.
        profile: Profile of the AWS configuration files.
        anonymous: Send unsigned requests, for public buckets.
        timeout_s: Seconds without an answer after which a request fails.
        attempts: How often a request is sent at most when the server is busy or the connection breaks, with
            growing pauses; no more after four times `timeout_s`.
        connections: Requests under way at the same time, per process.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    timeout_s: float = Field(default=30.0, gt=0)
    attempts: int = Field(default=8, ge=1, le=20)
    connections: int = Field(default=16, ge=1, le=256)

    @field_validator("endpoint_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is None:
            return url
        if scheme(url) not in ("http", "https"):
            raise ValueError("must begin with http:// or https://")
        if shown_uri(url) != url:
            raise ValueError(
                "must hold no user, password or query: credentials come from the environment or a profile"
            )
        return url


def scheme(uri: str) -> str:
    """Returns the lower-case scheme of a URL, and "file" for a path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else "file"


def is_url(uri: str) -> bool:
    """Whether it is a URL, file:// or any other, and not a plain path."""
    return _SCHEME.match(uri) is not None


def local_path(uri: str) -> str | None:
    """Returns the absolute path that a path or a file:// URL means, None for any other URL."""
    if scheme(uri) != "file":
        return None
    if is_url(uri):
        path = uri[len("file://") :].removeprefix("localhost")
        return os.path.abspath(os.fsdecode(unquote_to_bytes(path.encode("utf-8", "surrogateescape"))))
    return os.path.abspath(uri)


def local_uri(path: str) -> str:
    """Returns the URI of a local file: its absolute path as it is, so that any program can open it.

    Only a path whose bytes are not UTF-8, which no Parquet or JSON file can hold, becomes a file:// URL
    with percent codes.
    """
    path = os.path.abspath(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


def open_filesystem(uri: str, config: StorageConfig, attempts: int | None = None) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL, and the path of the URL in it.

    With `attempts` 1 retrying is left to the caller.

    Raises:
        ValueError: The scheme is not known, or a bucket's name is none.
        ImportError: The package for the scheme is not installed.
    """
    name = scheme(uri)
    cls: Any
    # Not through fsspec's own URL parsing, to which "::" in a name means a chain of file systems.
    if name in ("s3", "s3a"):
        from pipeline.storage.s3 import S3FileSystem

        _check_bucket(uri)
        cls = S3FileSystem
    else:
        cls = fsspec.get_filesystem_class(name)
    options = _options(name, config, attempts or config.attempts)
    if options is None:  # such as a host
        options = cls._get_kwargs_from_urls(uri)
    return cls(**options), cls._strip_protocol(uri)


def _check_bucket(uri: str) -> None:
    bucket = uri.partition("://")[2].partition("/")[0]
    if not bucket:
        raise ValueError(f"There is no bucket in {uri}")
    if "@" in bucket:
        raise ValueError(
            "A bucket's name holds no @: credentials come from the environment or a profile, not from a URL"
        )


def _options(name: str, config: StorageConfig, attempts: int) -> dict[str, Any] | None:
    """Options of the kinds of storage that are known; others find theirs in the URL."""
    if name in ("s3", "s3a"):
        return {
            "anon": config.anonymous,
            "profile": config.profile,
            "endpoint_url": config.endpoint_url,
            "client_kwargs": {"region_name": config.region} if config.region else {},
            "use_listings_cache": False,
            "attempts": attempts,
            "timeout_s": config.timeout_s,
            "connections": config.connections,
        }
    if name in ("http", "https"):
        import aiohttp  # comes with fsspec's HTTP support

        timeout = aiohttp.ClientTimeout(total=None, connect=config.timeout_s, sock_read=config.timeout_s)
        return {"client_kwargs": {"timeout": timeout}, "use_listings_cache": False}
    if name in ("gs", "gcs"):
        return {"use_listings_cache": False, **({"token": "anon"} if config.anonymous else {})}
    return None
