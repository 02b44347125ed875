"""Reading of local and remote files, and the listing of remote ones."""

import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
import tenacity
from faulty_proxy import FaultyProxy
from moto_s3 import moto_s3

from pipeline.errors import InputError, OutputError, ReadError
from pipeline.images import read
from pipeline.images.read import PhotoReader, ReadConfig, read_bytes
from pipeline.images.sources import list_input
from pipeline.images.walk import HIDDEN, UNREADABLE
from pipeline.storage.places import StorageConfig
from pipeline.storage.retries import retry_rule
from pipeline.storage.store import Store

CONFIG = ReadConfig(max_bytes=1000)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


def code_of(uri: str, config: ReadConfig = CONFIG) -> str:
    with pytest.raises(ReadError) as caught:
        read_bytes(uri, config)
    assert caught.value.message
    return caught.value.code


class TestLocal:
    def test_content(self, tmp_path):
        path = tmp_path / "a::b é.jpg"
        path.write_bytes(b"x" * 1000)
        assert read_bytes(str(path), CONFIG) == b"x" * 1000
        assert read_bytes(path.as_uri(), CONFIG) == b"x" * 1000

    def test_files_that_are_too_large(self, tmp_path):
        (tmp_path / "large.jpg").write_bytes(b"x" * 1001)
        assert code_of(f"{tmp_path}/large.jpg") == "file_too_large"

    def test_reasons(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "circle").symlink_to("circle")
        assert code_of(f"{tmp_path}/missing.jpg") == "not_found"
        assert code_of(f"{tmp_path}/file/below.jpg") == "not_found"
        assert code_of(str(tmp_path)) == "read_failed"
        assert code_of(f"{tmp_path}/circle") == "read_failed"
        assert code_of(f"{tmp_path}/{'x' * 5000}") == "read_failed"
        assert code_of(f"{tmp_path}/nul\0.jpg") == "read_failed"
        assert code_of("nonsense://bucket/a.jpg") == "read_failed"

    def test_a_pipe_does_not_block(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert code_of(f"{tmp_path}/pipe.jpg") == "read_failed"

    @pytest.mark.parametrize(
        ("number", "code", "calls"),
        [
            (errno.EACCES, "access_denied", 1),
            (errno.EIO, "read_failed", 1),
            (errno.ESTALE, "read_failed", 8),
            (errno.ETIMEDOUT, "timeout", 8),
        ],
    )
    def test_only_what_may_pass_is_tried_again(self, monkeypatch, number, code, calls):
        made = []

        def failing(path, max_bytes):
            made.append(path)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(read, "_read_local", failing)
        assert code_of("/a.jpg") == code
        assert len(made) == calls

    def test_pauses_grow_and_end(self, monkeypatch):
        pauses = []
        monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
        monkeypatch.setattr("tenacity.wait.random.uniform", lambda low, high: high)
        with pytest.raises(TimeoutError):
            tenacity.Retrying(**retry_rule(9, 60))(_never)
        assert pauses == [0.5, 1, 2, 4, 8, 16, 20, 20]
        with pytest.raises(TimeoutError):
            tenacity.Retrying(**retry_rule(9, 1e-9))(_never)
        assert len(pauses) == 8

    def test_many_at_once_in_order(self, tmp_path):
        for index in range(40):
            (tmp_path / f"{index}.jpg").write_bytes(bytes([index]))
        uris = [f"{tmp_path}/{index}.jpg" for index in range(41)]
        *contents, missing = PhotoReader(CONFIG)(uris)
        assert contents == [bytes([index]) for index in range(40)]
        assert isinstance(missing, ReadError)
        assert missing.code == "not_found"

    def test_no_more_is_read_than_may_be_held(self, tmp_path):
        for index in range(9):
            (tmp_path / f"{index}.jpg").write_bytes(bytes(100))
        config = CONFIG.model_copy(update={"storage": StorageConfig(connections=1)})
        uris = [f"{tmp_path}/missing.jpg", *(f"{tmp_path}/{index}.jpg" for index in range(9))]
        missing, *contents = PhotoReader(config).up_to(250, uris)
        assert isinstance(missing, ReadError)
        assert contents == [bytes(100)] * 3 + [None] * 6


def _never():
    raise TimeoutError


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    requests: list[str]

    def do_GET(self):
        kind = self.path.split("/")[1].partition("?")[0]
        self.requests.append(f"{self.command} {kind}")
        if kind == "busy" and len(self.requests) < 4:
            return self.answer(503, b"")
        if kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return None
        if kind == "stall":
            self.server.stalled.wait(20)
            return None
        if kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                return None
        if kind == "list.txt":
            return self.answer(200, b"a.jpg\nhttps://elsewhere/b.jpg\n")
        return self.answer({"missing": 404, "denied": 403, "broken": 500}.get(kind, 200), b"photo")

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web():
    handler = type("OwnHandler", (Handler,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.stalled = threading.Event()
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.requests = handler.requests
    yield server
    server.stalled.set()
    server.shutdown()
    server.server_close()


class TestWeb:
    CONFIG = ReadConfig(max_bytes=1000, storage=StorageConfig(attempts=2, timeout_s=30))
    HASTY = ReadConfig(max_bytes=1000, storage=StorageConfig(attempts=2, timeout_s=0.5))

    def test_content(self, web):
        assert read_bytes(f"{web.url}/photo?name=a b%20c.jpg", self.CONFIG) == b"photo"

    @pytest.mark.parametrize(
        ("kind", "code"),
        [
            ("missing", "not_found"),
            ("denied", "access_denied"),
            ("broken", "read_failed"),
            ("cut", "read_failed"),
            ("stall", "timeout"),
            ("endless", "file_too_large"),
        ],
    )
    def test_reasons(self, web, kind, code):
        assert code_of(f"{web.url}/{kind}", self.HASTY if kind == "stall" else self.CONFIG) == code

    def test_a_busy_server_is_asked_again(self, web):
        config = ReadConfig(storage=StorageConfig(attempts=5))
        assert read_bytes(f"{web.url}/busy", config) == b"photo"

    def test_nobody_there(self):
        assert code_of("http://127.0.0.1:1/a.jpg", self.CONFIG) == "read_failed"

    def test_a_url_is_one_photo_and_a_list_its_entries(self, web):
        assert [file.uri for file in list_input(f"{web.url}/photo*[1].jpg")] == [f"{web.url}/photo*[1].jpg"]
        assert [file.uri for file in list_input(f"{web.url}/list.txt?token=a/b")] == [
            f"{web.url}/a.jpg",
            "https://elsewhere/b.jpg",
        ]


class TestOtherFileSystems:
    @pytest.fixture
    def memory(self):
        filesystem = fsspec.filesystem("memory")
        filesystem.store.clear()
        filesystem.pseudo_dirs[:] = [""]
        yield filesystem
        filesystem.store.clear()

    def test_listing_and_reading(self, memory):
        for name in ("b.jpg", "a/c.jpg", "a/.hidden", "a/b/d.png"):
            memory.pipe(f"/photos/{name}", name.encode())
        memory.pipe("/photos2/e.jpg", b"")
        listing = list_input("memory://photos")
        files = list(listing)
        assert [file.uri for file in files] == [
            "memory:///photos/b.jpg",
            "memory:///photos/a/c.jpg",
            "memory:///photos/a/b/d.png",
        ]
        assert [file.size for file in files] == [5, 7, 9]
        assert listing.notes.counts == {HIDDEN: 1}
        assert read_bytes(files[1].uri, CONFIG) == b"a/c.jpg"
        assert [file.uri for file in list_input("memory://photos/**/*.jpg")] == [
            "memory:///photos/b.jpg",
            "memory:///photos/a/c.jpg",
        ]
        assert [file.uri for file in list_input("memory://photos", skip="memory://photos/a")] == [
            "memory:///photos/b.jpg"
        ]

    def test_lists_hold_paths_relative_to_themselves(self, memory):
        memory.pipe("/lists/list.txt", b"a.jpg\n/local/b.jpg\ns3://bucket/c.jpg\n")
        assert [file.uri for file in list_input("memory://lists/list.txt")] == [
            "memory://lists/a.jpg",
            "/local/b.jpg",
            "s3://bucket/c.jpg",
        ]

    def test_an_output(self, memory):
        store = Store("memory://out")
        for name in ("r[1]/a*.bin", "r[1]/b", "r1/a.bin"):
            store.write(name, name.encode())
        assert store.names() == ["r1", "r[1]"]
        assert store.read("r1/a.bin") == b"r1/a.bin"
        with store.open("r[1]/a*.bin") as file:
            file.seek(2)
            assert file.read(3) == b"1]/"
        store.remove("r[1]")
        assert memory.find("/out") == ["/out/r1/a.bin"]
        store.remove("r[1]")

    @pytest.mark.parametrize("url", ["ftp://me:pass-word@host/out", "https://host/out?sig=pass-word"])
    def test_an_output_with_a_password_in_its_url(self, url):
        with pytest.raises(OutputError, match="must hold no user") as caught:
            Store(url)
        assert "pass-word" not in caught.value.message

    @pytest.mark.parametrize("url", ["s3://", "s3:///", "s3://bucket//out", "memory://out//a/"])
    def test_an_output_without_a_name(self, url):
        with pytest.raises(OutputError, match="is a variable empty"):
            Store(url)

    def test_missing(self, memory):
        with pytest.raises(InputError, match="no such file"):
            list_input("memory://nowhere")
        assert code_of("memory://nowhere.jpg") == "not_found"

    def test_unreadable_folders_are_said(self, memory, monkeypatch):
        memory.pipe("/photos/a.jpg", b"")
        memory.pipe("/photos/locked/b.jpg", b"")
        ls = type(memory).ls

        def refusing(self, path, **options):
            if path.endswith("locked"):
                raise PermissionError("no")
            return ls(self, path, **options)

        monkeypatch.setattr(type(memory), "ls", refusing)
        listing = list_input("memory://photos")
        assert [file.uri for file in listing] == ["memory:///photos/a.jpg"]
        assert listing.notes.counts == {UNREADABLE: 1}


@pytest.fixture(scope="module")
def server():
    """S3 in this process, with a bucket `photos`."""
    with moto_s3(attempts=2) as (storage, client):
        client.create_bucket(Bucket="photos")
        yield storage, client


@pytest.fixture(scope="module")
def s3(server):
    """How the server is reached."""
    return server[0]


@pytest.fixture(scope="module")
def client(server):
    return server[1]


KEYS = ("faces/b.jpg", "faces/a/c d.jpg", "faces/ü::[1].jpg", "faces/100%25#?.jpg")


@pytest.fixture(scope="module")
def bucket(client):
    for key in (*KEYS, "faces/.hidden", "faces2/other.jpg"):
        client.put_object(Bucket="photos", Key=key, Body=key.encode())
    for key in ("faces/", "empty.jpg"):
        client.put_object(Bucket="photos", Key=key, Body=b"")


@pytest.mark.s3
class TestS3:
    def test_a_prefix_is_a_folder(self, s3, bucket):
        listing = list_input("s3://photos/faces", s3)
        files = list(listing)
        assert [file.uri for file in files] == [f"s3://photos/{key}" for key in sorted(KEYS)]
        assert listing.notes.counts == {HIDDEN: 1}
        assert all(file.etag and '"' not in file.etag for file in files)
        config = ReadConfig(storage=s3)
        contents = PhotoReader(config)([file.uri for file in files])
        assert contents == [key.encode() for key in sorted(KEYS)]
        assert [file.size for file in files] == [len(content) for content in contents]

    def test_globs_single_objects_and_the_output(self, s3, bucket):
        assert [file.uri for file in list_input("s3://photos/faces*/*r.jpg", s3)] == [
            "s3://photos/faces2/other.jpg"
        ]
        assert [file.uri for file in list_input("s3://photos/faces/ü::[1].jpg", s3)] == [
            "s3://photos/faces/ü::[1].jpg"
        ]
        rest = list_input("s3://photos", s3, skip="s3://photos/faces/")
        assert [file.uri for file in rest] == ["s3://photos/empty.jpg", "s3://photos/faces2/other.jpg"]

    def test_pages_are_put_together_in_order(self, s3, client, monkeypatch):
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        client.create_bucket(Bucket="many")
        for index in range(10):
            client.put_object(Bucket="many", Key=f"{index % 4}/{index:02d}.jpg", Body=b"")
        assert len(client.list_objects_v2(Bucket="many")["Contents"]) == 3
        uris = [file.uri for file in list_input("s3://many", s3)]
        assert uris == sorted(f"s3://many/{index % 4}/{index:02d}.jpg" for index in range(10))

    def test_reasons(self, s3, bucket):
        config = ReadConfig(storage=s3, max_bytes=5)
        assert read_bytes("s3://photos/empty.jpg", config) == b""
        assert code_of("s3://photos/missing.jpg", config) == "not_found"
        assert code_of("s3://nowhere/missing.jpg", config) == "not_found"
        assert code_of("s3://photos/faces/b.jpg", config) == "file_too_large"

    def test_public_objects_are_read_without_signatures(self, s3, client, bucket, monkeypatch):
        client.create_bucket(Bucket="public", ACL="public-read")
        client.put_object(Bucket="public", Key="a.jpg", Body=b"a", ACL="public-read")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with FaultyProxy(s3.endpoint_url) as proxy:
            public = s3.model_copy(update={"endpoint_url": proxy.url, "anonymous": True})
            assert [file.uri for file in list_input("s3://public", public)] == ["s3://public/a.jpg"]
            assert read_bytes("s3://public/a.jpg", ReadConfig(storage=public)) == b"a"
            assert code_of("s3://photos/faces/b.jpg", ReadConfig(storage=public)) == "access_denied"
            assert not any(seen.signed for seen in proxy.seen)
            proxy.clear()
            signing = public.model_copy(update={"anonymous": False})
            assert code_of("s3://public/a.jpg", ReadConfig(storage=signing)) == "access_denied"
            assert proxy.seen == []

    def test_buckets_that_are_not_there(self, s3, bucket):
        with pytest.raises(InputError, match="no bucket 'nowhere'"):
            list_input("s3://nowhere", s3)
        with pytest.raises(InputError):
            list_input("s3://photos", s3.model_copy(update={"endpoint_url": "http://127.0.0.1:1"}))
