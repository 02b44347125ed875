"""A real S3 server for the tests: OpenStack Swift with its s3api, on this machine's loopback.

Four servers (account, container, object, proxy) run as child processes over a temporary folder. The kernel
kills them when their parent dies, however that happens.

    with SwiftServer(folder) as swift:
        boto3.client("s3", endpoint_url=swift.url, aws_access_key_id=swift.key, ...)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from ports import free_ports

KINDS = ("account", "container", "object", "proxy")
START_SECONDS = 120

_CONF = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
user = {user}
log_name = {kind}
log_address = /dev/null
log_level = WARNING
"""

# The time-outs are long: on a busy machine Swift would put off the entry of a new object in its listing.
_STORAGE_CONF = """
devices = {folder}/devices
mount_check = false
disable_fallocate = true
conn_timeout = 30
node_timeout = 60
container_update_timeout = 60

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY_CONF = """
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth bulk slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 30
node_timeout = 60
recoverable_node_timeout = 60
allow_account_management = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:gatekeeper]
use = egg:swift#gatekeeper

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
error_suppression_limit = 1
connect_timeout = 0.05

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin

[filter:bulk]
use = egg:swift#bulk

[filter:slo]
use = egg:swift#slo
minimum_segment_size = 1
"""


class SwiftServer:
    """The four servers; a context manager.

    Args:
        folder: An empty folder on a file system with extended attributes.

    Attributes:
        url: Address of the S3 interface; buckets are in the path.
        key: Access key.
        secret: Secret key.
        region: Region that signatures must name.
    """

    key = "test:tester"
    secret = "testing"
    region = "us-east-1"

    def __init__(self, folder: Path):
        self._folder = folder
        self._processes: list[subprocess.Popen] = []
        self._ports = dict(zip(KINDS, free_ports(len(KINDS)), strict=True))
        self.url = f"http://127.0.0.1:{self._ports['proxy']}"

    def __enter__(self) -> SwiftServer:
        self._write_files()
        try:
            self._run("rings", *(f"{kind}={self._ports[kind]}" for kind in KINDS[:3])).check()
            self._processes = [self._run(kind) for kind in KINDS]
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which S3 clients find this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": self.region,
        }

    def log(self) -> str:
        """What the servers wrote so far, for messages."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self._folder.glob("*.log"))

    def _write_files(self) -> None:
        (self._folder / "devices" / "d1").mkdir(parents=True)
        (self._folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_prefix = tests\nswift_hash_path_suffix = tests\n"
            "[storage-policy:0]\nname = only\ndefault = yes\n"
        )
        for kind, port in self._ports.items():
            text = _CONF + (_PROXY_CONF if kind == "proxy" else _STORAGE_CONF)
            values = {"port": port, "folder": self._folder, "kind": kind, "user": _user()}
            (self._folder / f"{kind}.conf").write_text(text.format(**values))

    def _run(self, what: str, *arguments: str) -> _Child:
        return _Child(self._folder, what, *arguments)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"Swift did not start:\n{self.log()}")
            if all(_answers(port) for port in self._ports.values()):
                return
            time.sleep(0.05)
        raise RuntimeError(f"Swift is not ready after {START_SECONDS} s:\n{self.log()}")


class _Child(subprocess.Popen):
    """This module as a program of its own; see `_main`."""

    def __init__(self, folder: Path, what: str, *arguments: str):
        self._log = folder / f"{what}.log"
        command = [sys.executable, "-W", "ignore", __file__, str(os.getpid()), str(folder), what, *arguments]
        with self._log.open("wb") as log:
            super().__init__(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)

    def check(self) -> None:
        if self.wait():
            raise RuntimeError(self._log.read_text(errors="replace"))


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _answers(port: int) -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/recon/version")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError as error:  # the proxy has no such page, but it is there
        error.close()
        return True
    except OSError:
        return False


def _main(parent: int, folder: str, what: str, *arguments: str) -> None:
    """Runs one server, or makes the rings, until the parent dies."""
    with suppress(AttributeError, OSError):  # Linux alone
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("The parent is gone.")
    if what == "rings":
        from swift.common.ring import RingBuilder

        for argument in arguments:
            kind, port = argument.split("=")
            builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
            device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1"}
            builder.add_dev(
                {**device, "weight": 1, "replication_ip": "127.0.0.1", "replication_port": int(port)}
            )
            builder.rebalance()
            builder.get_ring().save(f"{folder}/{kind}.ring.gz")
        return
    import importlib

    module = importlib.import_module(f"swift.{'obj' if what == 'object' else what}.server")
    sys.argv = [f"swift-{what}-server", f"{folder}/{what}.conf"]
    sys.exit(module.main())


if __name__ == "__main__":
    _main(int(sys.argv[1]), *sys.argv[2:])
