"""What the errors of a file system mean, and what is tried again."""

import asyncio
import errno
from typing import Any

import tenacity

from pipeline.redact import redact


def retry_rule(attempts: int, timeout_s: float) -> dict[str, Any]:
    """Returns the arguments of tenacity's classes: what is tried again, how often and after what pauses.

    Args:
        attempts: How often it is tried at most.
        timeout_s: Seconds that one attempt may wait for an answer; after four times that no other begins.
    """
    return {
        "stop": tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(4 * timeout_s),
        # The more workers wait, the more it matters that they do not all come back at the same moment.
        "wait": tenacity.wait_random_exponential(multiplier=0.5, max=20),
        "retry": tenacity.retry_if_exception(is_transient),
        "reraise": True,
    }


def http_status(error: BaseException) -> int | None:
    """Returns the status of the answer that a client library made an error of, None where there is none."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)  # botocore's
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    # aiohttp calls it status, gcsfs code; aiohttp's own code is deprecated.
    status = error.status if hasattr(error, "status") else getattr(error, "code", None)
    return status if isinstance(status, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, TimeoutError | ConnectionError | asyncio.IncompleteReadError):
        return True
    status = http_status(error)
    if status is not None:
        return status in (408, 425, 429) or (status >= 500 and status not in (501, 505))
    if isinstance(error, OSError) and error.errno in _BUSY:
        return True
    return type(error).__name__ in _CONNECTION_ERRORS


_BUSY = (errno.EBUSY, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO)  # s3fs: 500, 503

# By name, since the packages that they come from need not be installed.
_CONNECTION_ERRORS = (
    # botocore
    "HTTPClientError",
    "EndpointConnectionError",
    "ConnectionClosedError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "IncompleteReadError",
    "ResponseStreamingError",
    "ResponseParserError",
    "FlexibleChecksumError",
    # aiohttp
    "ClientConnectionError",
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ServerDisconnectedError",
)


def explain(error: BaseException) -> tuple[str, str]:
    """Returns the stable error code and one sentence for an error of a file system.

    Codes: not_found, access_denied, timeout, read_failed.
    """
    status = http_status(error)
    name = type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError) or status in (404, 410):
        return "not_found", "There is no such file."
    if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"):
        return "access_denied", f"No credentials: {_text(error)}."
    if isinstance(error, PermissionError) or status in (401, 403):
        return "access_denied", f"Access denied: {_text(error)}."
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return "timeout", f"No answer in time: {_text(error)}."
    return "read_failed", f"Cannot be read: {_text(error)}."


def _text(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(redact(text).split()).rstrip(".") or type(error).__name__
