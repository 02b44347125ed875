"""Downloads over HTTP that go on where they broke off."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

import tenacity

from pipeline.errors import AssetsError

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 30
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Interrupted(Exception):
    """The transfer ended early; another try may go on from there."""


def download(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    attempts: int = 6,
    backoff_s: float = 1.0,
) -> None:
    """Downloads one file; what has come is kept as `<path>.part`, also between runs, and not asked for again.

    Args:
        url: Where the file is; its content must not change from one try to the next.
        path: Where it goes, once it is whole.
        max_bytes: A longer file is refused.
        attempts: Tries in all.
        backoff_s: Wait before the second try; doubles from try to try up to 30 s.

    Raises:
        AssetsError: The server refuses the file, or all tries failed (code asset_download).
        OSError: The file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    tries = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=backoff_s, max=30),
        retry=tenacity.retry_if_exception_type(_Interrupted),
        reraise=True,
    )
    try:
        tries(_append, url, part, max_bytes)
    except _Interrupted as error:
        raise _refused(f"Cannot download {url}: {error}. The same command goes on from there.") from error
    os.replace(part, path)


def _append(url: str, part: Path, max_bytes: int) -> None:
    """Adds to `part` what it still misses."""
    have = _size(part)
    # Ranges count the bytes as sent, so compression in transit would make them useless.
    request = urllib.request.Request(url, headers={"User-Agent": "facet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if have and response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0
            _receive(response, part, have, max_bytes)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return  # an earlier run was stopped after the last byte
                part.unlink()
                raise _Interrupted("the partial file is longer than the server's") from error
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in TRANSIENT_STATUS:
                raise _Interrupted(answer) from error
            raise _refused(f"Cannot download {url}: {answer}.") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(str(error)) from error


def _receive(response: http.client.HTTPResponse, part: Path, have: int, max_bytes: int) -> None:
    received = 0
    with part.open("ab" if have else "wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            received += len(chunk)
            if have + received > max_bytes:
                raise _refused(f"{response.url} is larger than the {max_bytes} bytes expected.")
            file.write(chunk)
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and received < int(announced):
        raise _Interrupted(f"the connection ended after {received} of {announced} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _refused(message: str) -> AssetsError:
    return AssetsError(message, code="asset_download")
