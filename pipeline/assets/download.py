"""Downloads over HTTP, tried again where a connection breaks."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

import tenacity

from pipeline.errors import AssetsError

TIMEOUT_S = 30
TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _Interrupted(Exception):
    """The transfer failed; another try may succeed."""


def download(url: str, path: Path, *, max_bytes: int, attempts: int = 6, backoff_s: float = 1.0) -> None:
    """Downloads one small file, whole or not at all.

    Args:
        url: Where the file is.
        path: Where it goes.
        max_bytes: A longer file is refused.
        attempts: Tries in all.
        backoff_s: Wait before the second try; doubles from try to try up to 30 s.

    Raises:
        AssetsError: The server refuses the file, or all tries failed (code asset_download).
        OSError: The file cannot be written.
    """
    tries = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=backoff_s, max=30),
        retry=tenacity.retry_if_exception_type(_Interrupted),
        reraise=True,
    )
    try:
        data = tries(_get, url, max_bytes)
    except _Interrupted as error:
        raise _refused(
            f"Cannot download {url}: {error}. The same command goes on with the files that are missing."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def _get(url: str, max_bytes: int) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "facet"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            data = response.read(max_bytes + 1)
            announced = response.headers.get("Content-Length", "")
    except urllib.error.HTTPError as error:
        with error:
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in TRANSIENT_STATUS:
                raise _Interrupted(answer) from error
            raise _refused(f"Cannot download {url}: {answer}.") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(str(error)) from error
    if len(data) > max_bytes:
        raise _refused(f"{url} is larger than the {max_bytes} bytes expected.")
    if announced.isdigit() and len(data) < int(announced):
        raise _Interrupted(f"the connection ended after {len(data)} of {announced} bytes")
    return data


def _refused(message: str) -> AssetsError:
    return AssetsError(message, code="asset_download")
