"""S3 in the process of the tests: quick to start, but kinder than a real server; see `swift_server`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from pipeline.storage.places import StorageConfig


@contextmanager
def moto_s3(attempts: int) -> Iterator[tuple[StorageConfig, Any]]:
    """Starts an empty server; yields how it is reached, and a client of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        try:
            host, port = server.get_host_and_port()
            storage = StorageConfig(
                endpoint_url=f"http://{host}:{port}", region="us-east-1", attempts=attempts
            )
            client = boto3.client("s3", endpoint_url=storage.endpoint_url, region_name=storage.region)
            yield storage, client
            client.close()
        finally:
            server.stop()
            # All servers of a process share what they hold.
            get_backend("s3").reset()
