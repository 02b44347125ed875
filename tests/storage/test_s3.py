"""Object storage for real: a Swift server with its S3 interface, and a proxy that breaks requests to it."""

import io
import json
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import tenacity
from bad_images import encode, portrait
from faulty_proxy import Fault, FaultyProxy
from normals_run import run_normals
from spheres import sphere_row, write_rows

from jobs import entry
from jobs.normals import command
from jobs.train import command as train_command
from pipeline.config import load_config
from pipeline.errors import InputError, OutputError, ReadError
from pipeline.images.read import PhotoReader, ReadConfig, read_bytes
from pipeline.images.sources import list_input
from pipeline.recipes.normals import NormalsRun
from pipeline.run.markers import committed_shards
from pipeline.storage.places import StorageConfig
from pipeline.storage.store import Store
from pipeline.train.loop import Trainer

pytestmark = [pytest.mark.s3, pytest.mark.timeout(600)]

HOSTILE = (
    "plain.jpg",
    "two words .jpg",
    "ü/日本語 é.jpg",
    '<b onclick="x">&amp;\'.jpg',
    "100%25#?&+=.jpg",
    "*[1]{a,b}?.jpg",
    "a::b.jpg",
    "line\nbreak.jpg",
    "-dash~.JPG",
    "no suffix",
    "a::b.jpg?versionId=1",
)
"""Names of good photos, none of which a file system or S3 forbids."""


def photo(number: int) -> bytes:
    """A photo of one face that no other number gives."""
    pixels = portrait(160).copy()
    pixels[:2, :2] = number
    return encode(pixels, "JPEG", quality=90)


GOOD = {name: photo(number) for number, name in enumerate(HOSTILE)}
BAD = {
    "empty.jpg": b"",
    "cut short.jpg": photo(50)[:1500],
    "a page.jpg": b"<!doctype html><title>404 Not Found</title>",
    "nobody.png": encode(np.full((64, 64, 3), 120, np.uint8), "PNG"),
}
PHOTOS = GOOD | BAD


@pytest.fixture(autouse=True)
def _clean_environment(swift, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")] + ["RAY_ADDRESS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        "AWS_EC2_METADATA_DISABLED", "true"
    )  # or a client without credentials asks the network
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.secret)


@pytest.fixture
def impatient(monkeypatch):
    """No pauses between attempts, whose number alone counts; in effect for what is opened from now on."""
    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: tenacity.wait_none())
    monkeypatch.setattr(tenacity, "stop_after_delay", lambda seconds: tenacity.stop_never)


@pytest.fixture(scope="module")
def client(swift):
    client = boto3.client(
        "s3",
        endpoint_url=swift.url,
        region_name=swift.region,
        aws_access_key_id=swift.key,
        aws_secret_access_key=swift.secret,
    )
    yield client
    client.close()


def new_bucket(client) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name


def put_all(client, bucket: str, objects: dict[str, bytes], prefix: str = "faces/") -> None:
    for key, content in objects.items():
        client.put_object(Bucket=bucket, Key=prefix + key, Body=content)


@pytest.fixture
def bucket(client) -> str:
    return new_bucket(client)


@pytest.fixture(scope="module")
def photos(client) -> str:
    """URL of a folder with `PHOTOS`, which no test changes."""
    bucket = new_bucket(client)
    put_all(client, bucket, PHOTOS)
    return f"s3://{bucket}/faces"


@pytest.fixture
def proxy(swift):
    with FaultyProxy(swift.url) as proxy:
        yield proxy


def storage(server, **changes) -> StorageConfig:
    values = {"endpoint_url": server.url, "region": "us-east-1", "timeout_s": 60, **changes}
    return StorageConfig(**values)


@pytest.fixture(scope="module")
def run(random_weights):
    """Runs the main job with small shards, against a server or a proxy."""

    def start(source: str, out: str, server, *options: str, **arguments):
        settings = [
            f"normals.weights={random_weights}",
            "plan.shard_size=4",
            "plan.chunk_size=2",
            "engine.name=local",
            "engine.cpus=1",
            f"read.storage.endpoint_url={server.url}",
            "read.storage.region=us-east-1",
            "output.report=false",
            *options,
        ]
        return run_normals(
            source, out, load_config(NormalsRun, None, settings), say=lambda line: None, **arguments
        )

    return start


def content(client, url: str, folder: str = "") -> dict[str, bytes]:
    """All objects below a folder of a run, by their names in it."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/{folder}"):
        for item in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            found[item["Key"].removeprefix(f"{prefix}/")] = body
    return found


def rows_of(client, out: str) -> dict[str, dict]:
    """Records of a run by what follows faces/ in the URI."""
    rows = {}
    for data in content(client, out, "records/").values():
        for row in pq.read_table(io.BytesIO(data)).to_pylist():
            rows[row["uri"].partition("/faces/")[2]] = row
    return rows


def codes(rows: dict[str, dict]) -> dict[str, str | None]:
    return {name: row["error_code"] for name, row in rows.items()}


EXPECTED = dict.fromkeys(GOOD) | {
    "empty.jpg": "empty_file",
    "cut short.jpg": "truncated",
    "a page.jpg": "unsupported_format",
    "nobody.png": "no_face",
}


@pytest.fixture(scope="module")
def undisturbed(swift, photos, run) -> str:
    """URL of a finished run over `photos`."""
    out = f"{photos.rpartition('/')[0]}/out"
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", swift.key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", swift.secret)
    run(photos, out, swift, "output.report=true")
    patch.undo()
    return out


class TestRun:
    def test_the_same_records_as_of_local_files(self, photos, undisturbed, client, random_weights, tmp_path):
        for name, data in PHOTOS.items():
            path = tmp_path / "faces" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        options = [f"normals.weights={random_weights}", "engine.name=local", "output.report=false"]
        run_normals(
            f"{tmp_path}/faces",
            f"{tmp_path}/out",
            load_config(NormalsRun, None, options),
            say=lambda line: None,
        )
        local = {}
        for file in (tmp_path / "out" / "records").iterdir():
            for row in pq.read_table(file).to_pylist():
                local[row["uri"].partition("/faces/")[2]] = row
        remote = rows_of(client, undisturbed)
        assert codes(remote) == EXPECTED
        assert {row["uri"] for row in remote.values()} == {f"{photos}/{name}" for name in PHOTOS}
        for rows in (local, remote):
            for row in rows.values():
                del row["uri"], row["id"]
        assert remote == local

    def test_run_json_and_the_report(self, undisturbed, client):
        files = content(client, undisturbed)
        assert not [name for name in files if name.startswith("_work")]
        state = json.loads(files["run.json"])
        assert (state["status"], state["counts"]["images"]) == ("complete", len(PHOTOS))
        page = files["report/index.html"].decode()
        assert page.lower().startswith("<!doctype html>")
        assert 'onclick="x"' not in page
        assert "<link" not in page
        assert 'src="http' not in page
        bucket, _, prefix = undisturbed.removeprefix("s3://").partition("/")
        head = client.head_object(Bucket=bucket, Key=f"{prefix}/report/index.html")
        assert head["ContentType"] == "text/html"

    def test_the_printed_line_reads_the_records(self, undisturbed, swift, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", swift.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", swift.region)
        assert ds.dataset(f"{undisturbed}/records").to_table(columns=["uri"]).num_rows == len(PHOTOS)

    @pytest.mark.slow
    def test_what_exists_is_resumed_refused_or_overwritten(self, run, swift, photos, bucket, client):
        out = f"s3://{bucket}/run [1]"  # a pattern to fsspec
        put_all(client, bucket, {"mine.txt": b"1"}, "run 1/records/")
        put_all(client, bucket, {"mine.txt": b"2"}, "run [1]x/")
        first = run(photos, out, swift, limit=6)
        before = content(client, out, "records/")
        assert run(photos, out, swift, limit=6).counts == first.counts
        with pytest.raises(OutputError, match="holds a run already"):
            run(photos, out, swift, limit=6, on_existing="fail")
        with pytest.raises(OutputError, match=r"output\.bits: 8 -> 16"):
            run(photos, out, swift, "output.bits=16", limit=6)
        assert content(client, out, "records/") == before
        last = run(
            photos, out, swift, "output.bits=16", "output.report=true", limit=1, on_existing="overwrite"
        )
        assert last.report == f"{out}/report/index.html"
        assert len(rows_of(client, out)) == 1
        assert len(content(client, out, "_done/")) == 1
        assert content(client, f"s3://{bucket}/run 1") == {"records/mine.txt": b"1"}
        assert content(client, f"s3://{bucket}/run [1]x") == {"mine.txt": b"2"}

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["records/shard-00001", "_done/00001"])
    def test_a_run_killed_within_a_commit_goes_on(
        self, run, swift, proxy, photos, undisturbed, bucket, client, random_weights, name
    ):
        out = f"s3://{bucket}/out"
        settings = {
            "plan.shard_size": 4,
            "plan.chunk_size": 2,
            "engine.cpus": 1,
            "normals.weights": random_weights,
            "read.storage.endpoint_url": proxy.url,
            "read.storage.region": "us-east-1",
        }
        given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        proxy.faults.append(Fault("stall", "PUT", name))
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.normals", photos, out, "--engine", "local", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(entry.__file__).parents[1],
        )
        try:
            while not proxy.faults[0].hits:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
        finally:
            process.kill()
            process.communicate()
        assert committed_shards(Store(out, storage(swift))) == {0}
        run(photos, out, swift)
        assert content(client, out, "records/") == content(client, undisturbed, "records/")
        assert content(client, out, "_work/") == {}

    @pytest.mark.ray
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own
    @pytest.mark.slow
    def test_ray_writes_the_same_bytes(self, run, swift, photos, undisturbed, bucket, client, monkeypatch):
        monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
        out = f"s3://{bucket}/out"
        result = run(photos, out, swift, "engine.name=ray", "engine.cpus=2")
        assert (result.counts.images, result.counts.found["faces"]) == (len(PHOTOS), len(GOOD))
        assert content(client, out, "records/") == content(client, undisturbed, "records/")
        assert not content(client, out, "_work/")


class TestListing:
    @pytest.mark.slow
    def test_more_keys_than_a_page_holds(self, swift, client, bucket):
        names = [f"many/{number % 7}/{number:04}.jpg" for number in range(1010)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: client.put_object(Bucket=bucket, Key=name, Body=b""), names))
        assert client.list_objects_v2(Bucket=bucket)["IsTruncated"]
        files = list(list_input(f"s3://{bucket}", storage(swift)))
        assert [file.uri for file in files] == sorted(f"s3://{bucket}/{name}" for name in names)
        assert len(Store(f"s3://{bucket}", storage(swift)).names("many/3")) == 144
        Store(f"s3://{bucket}", storage(swift)).remove("many")
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0

    def test_keys_that_look_like_folders_paths_and_patterns(self, swift, client, bucket):
        keys = ("a//b.jpg", "/c.jpg", "d/", "d", "d/e.jpg", "[f].jpg", "f.jpg", "g/h/i.jpg")
        put_all(client, bucket, {key: key.encode() for key in keys}, "")
        config = storage(swift)

        def found(source: str) -> list[str]:
            files = list(list_input(source, config))
            contents = PhotoReader(ReadConfig(storage=config))([file.uri for file in files])
            assert contents == [file.uri.removeprefix(f"s3://{bucket}/").encode() for file in files]
            assert all(file.etag and file.size == len(file.uri) - len(f"s3://{bucket}/") for file in files)
            return [data.decode() for data in contents]

        assert found(f"s3://{bucket}") == sorted(set(keys) - {"d/"})
        with pytest.raises(InputError, match="neither a photo nor a list"):
            found(f"s3://{bucket}/d")  # the object, not the folder
        assert found(f"s3://{bucket}/d/") == ["d/e.jpg"]
        assert found(f"s3://{bucket}/[f].jpg") == ["[f].jpg"]
        assert found(f"s3://{bucket}/g/*/*.jpg") == ["g/h/i.jpg"]

    def test_a_glob_lists_only_what_begins_like_it(self, proxy, client, bucket):
        put_all(client, bucket, dict.fromkeys(("2023/a.jpg", "2024-1/b.jpg", "2024-2/c.png"), b"x"), "")
        files = list_input(f"s3://{bucket}/2024-*/*.jpg", storage(proxy))
        assert [file.uri for file in files] == [f"s3://{bucket}/2024-1/b.jpg"]
        assert proxy.count("GET", "prefix=2024-(&|$)") == 1
        assert proxy.count("GET", "prefix=(&|$)") == 0

    def test_an_empty_folder_is_told_without_listing_its_parent(self, proxy, bucket):
        assert Store(f"s3://{bucket}/nothing/here", storage(proxy)).names() == []
        assert [seen.key for seen in proxy.seen if "prefix=nothing/here/" not in seen.key] == []

    def test_a_page_that_breaks_off_is_asked_for_again(self, proxy, photos, impatient):
        proxy.faults.append(Fault("half", "GET", "list-type=2", times=3))
        assert len(list(list_input(photos + "/", storage(proxy)))) == len(PHOTOS)
        assert proxy.faults[0].hits == 3

    def test_a_list_of_urls_that_breaks_off(self, proxy, client, bucket, impatient):
        client.put_object(Bucket=bucket, Key="list.txt", Body=b"a.jpg\ns3://other/b.jpg\n")
        proxy.faults.append(Fault("half", "GET", "list.txt", times=2))
        files = list_input(f"s3://{bucket}/list.txt", storage(proxy))
        assert [file.uri for file in files] == [f"s3://{bucket}/a.jpg", "s3://other/b.jpg"]


@pytest.fixture
def facet(capsys, random_weights):
    """Runs a command as the command line does; returns exit code, stdout and stderr."""

    def start(*arguments: str, command=command) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            entry.run(command, arguments)
        return ended.value.code or 0, *capsys.readouterr()

    return start


class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "out", "environment", "options", "said"),
        [
            ("s3://nowhere-at-all/x", "{out}", {}, [], "no bucket 'nowhere-at-all'"),
            ("{photos}/none.jpg", "{out}", {}, [], "no such file"),
            ("{photos}", "s3://nowhere-at-all/out", {}, [], "bucket does not exist"),
            ("{photos}", "{out}", {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"}, [], "Access denied"),
            ("{photos}", "{out}", {"AWS_ACCESS_KEY_ID": "nobody:at-all"}, [], "Access denied"),
            ("{photos}", "{out}", {"AWS_ACCESS_KEY_ID": None}, [], "No credentials"),
            ("{photos}", "{out}", {}, ["read.storage.profile=nosuch"], "No credentials"),
            ("{photos}", "{out}", {}, ["read.storage.endpoint_url=http://127.0.0.1:1"], "Cannot be read"),
            ("{photos}", "s3://user:very-secret@bucket/out", {}, [], "must hold no user"),
            ("s3://user:very-secret@bucket/in", "{out}", {}, [], "holds no @"),
            ("{photos}", "{out}", {}, ["read.storage.endpoint_url=http://me:very-secret@host"], "no user"),
            ("{photos}", "{out}", {}, ["read.storage.endpoint_url=localhost:9000"], "must begin with http"),
            ("s3://", "{out}", {}, [], "no bucket"),
        ],
    )
    def test_one_line_and_exit_code_2(
        self,
        facet,
        proxy,
        photos,
        bucket,
        monkeypatch,
        random_weights,
        source,
        out,
        environment,
        options,
        said,
    ):
        for name, value in environment.items():
            if value is None:
                monkeypatch.delenv(name)
                monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            else:
                monkeypatch.setenv(name, value)
        settings = [
            f"normals.weights={random_weights}",
            f"read.storage.endpoint_url={proxy.url}",
            "read.storage.region=us-east-1",
            "read.storage.attempts=1",
            *options,
        ]
        places = {"photos": photos, "out": f"s3://{bucket}/out"}
        given = [part for setting in settings for part in ("--set", setting)]
        code, stdout, stderr = facet(source.format(**places), out.format(**places), *given)
        assert code == 2
        assert stdout == ""
        (line,) = stderr.strip().splitlines()
        assert line.startswith("facet: ")
        assert said in line
        assert "secret" not in line
        assert proxy.count("PUT", "^(?!.*nowhere)") == 0


class TestReading:
    @pytest.mark.parametrize("kind", ["error", "slow_down", "reset", "stall", "half", "lost"])
    def test_what_passes_is_tried_again(self, proxy, photos, impatient, kind):
        times = 1 if kind == "stall" else 2  # a stall is waited for
        proxy.faults.append(Fault(kind, "GET", "plain.jpg", times=times))
        config = ReadConfig(storage=storage(proxy, timeout_s=5))
        assert read_bytes(f"{photos}/plain.jpg", config) == PHOTOS["plain.jpg"]
        assert proxy.count("GET", "plain.jpg") == times + 1

    @pytest.mark.parametrize(
        ("kind", "code", "requests"),
        [
            ("error", "read_failed", 3),
            ("slow_down", "read_failed", 3),
            ("reset", "read_failed", 3),
            ("half", "read_failed", 3),
            ("stall", "timeout", 3),
            ("denied", "access_denied", 1),
        ],
    )
    def test_what_lasts_is_the_photos_error(self, proxy, photos, impatient, kind, code, requests):
        proxy.faults.append(Fault(kind, "GET", "plain.jpg"))
        config = ReadConfig(storage=storage(proxy, timeout_s=1 if kind == "stall" else 60, attempts=3))
        bad, good = PhotoReader(config)([f"{photos}/plain.jpg", f"{photos}/no suffix"])
        assert isinstance(bad, ReadError)
        assert (bad.code, good) == (code, PHOTOS["no suffix"])
        # aiohttp, for its part, sends a request again at once when a connection was reset.
        assert proxy.count("GET", "plain.jpg") in (
            {requests, 2 * requests} if kind == "reset" else {requests}
        )

    def test_many_connections_are_used_and_kept(self, proxy, photos):
        reader = PhotoReader(ReadConfig(storage=storage(proxy)))
        uris = [f"{photos}/{name}" for name in PHOTOS] * 3
        assert reader(uris) == list(PHOTOS.values()) * 3
        assert proxy.count("GET") == len(uris)
        assert proxy.connections <= 16


class TestWriting:
    @pytest.mark.parametrize("kind", ["error", "slow_down", "reset", "stall", "lost"])
    def test_what_passes_is_tried_again(self, proxy, bucket, client, impatient, kind):
        times = 1 if kind == "stall" else 2  # a stall is waited for
        proxy.faults.append(Fault(kind, "PUT", "a.bin", times=times))
        Store(f"s3://{bucket}/out", storage(proxy, timeout_s=5)).write("a.bin", b"x" * 100_000)
        assert client.get_object(Bucket=bucket, Key="out/a.bin")["Body"].read() == b"x" * 100_000
        assert proxy.count("PUT", "a.bin") == times + 1

    @pytest.mark.parametrize(
        ("fault", "requests"),
        [
            (Fault("error", "PUT", "partNumber=2", times=2), 3),
            (Fault("reset", "PUT", "partNumber=1", times=1), 2),
            (Fault("slow_down", "POST", "uploads", times=1), 2),
            (Fault("lost", "POST", "uploadId", times=1), 2),
        ],
    )
    def test_large_files_go_in_parts(self, proxy, bucket, client, impatient, small_parts, fault, requests):
        proxy.faults.append(Fault(fault.kind, fault.method, fault.key, times=fault.times))
        data = np.random.default_rng(0).bytes(11 << 20)
        Store(f"s3://{bucket}/out", storage(proxy)).write("large.bin", data)
        assert client.get_object(Bucket=bucket, Key="out/large.bin")["Body"].read() == data
        assert proxy.count(fault.method, fault.key) == requests
        assert proxy.count("PUT", "partNumber=3") == 1

    @pytest.mark.parametrize("part", ["partNumber=2", "uploadId=[^&]*$"])
    def test_what_fails_half_way_leaves_nothing(self, proxy, bucket, client, impatient, small_parts, part):
        proxy.faults.append(Fault("denied", key=part))
        store = Store(f"s3://{bucket}/out", storage(proxy))
        with pytest.raises(OutputError, match=rf"Cannot write s3://{bucket}/out/large\.bin: Access Denied"):
            store.write("large.bin", bytes(11 << 20))
        assert store.names() == []
        with pytest.raises(FileNotFoundError):
            store.read("large.bin")

    def test_an_upload_that_is_killed_leaves_what_was_there(self, proxy, bucket, client):
        store = Store(f"s3://{bucket}/out", storage(proxy))
        store.write("a.bin", b"before")
        proxy.faults.append(Fault("stall", "PUT", "a.bin"))
        script = (
            "from pipeline.storage.store import Store; from pipeline.storage.places import StorageConfig; "
            f"Store('s3://{bucket}/out', StorageConfig(endpoint_url='{proxy.url}', region='us-east-1'))"
            ".write('a.bin', b'x' * 5_000_000)"
        )
        process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(entry.__file__).parents[1])
        try:
            while not proxy.faults[0].hits:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        assert store.read("a.bin") == b"before"

    def test_new_file_is_written_once_though_the_answer_is_lost(self, proxy, bucket, impatient, monkeypatch):
        """Also when those who come later have not seen it."""
        store = Store(f"s3://{bucket}/out", storage(proxy))
        proxy.faults.append(Fault("lost", "PUT", "plan.json", times=1))
        assert store.write_new("plan.json", b"first")
        assert proxy.faults[0].hits == 1
        assert not store.write_new("plan.json", b"late")
        monkeypatch.setattr(store.filesystem, "exists", lambda path: False)
        assert not store.write_new("plan.json", b"later")
        assert store.read("plan.json") == b"first"

    def test_a_file_is_read_in_parts_whatever_breaks(self, proxy, bucket, impatient):
        store = Store(f"s3://{bucket}/out", storage(proxy))
        data = np.random.default_rng(1).bytes(3 << 20)
        store.write("a.bin", data)
        proxy.faults.append(Fault("half", "GET", "a.bin", share=0.5, times=3))
        with store.open("a.bin") as file:
            assert file.seek(-100, io.SEEK_END) == len(data) - 100
            assert file.read() == data[-100:]
            assert file.seek(1000) == 1000
            assert file.read(2 << 20) == data[1000 : 1000 + (2 << 20)]
        with pytest.raises(FileNotFoundError):
            store.open("b.bin")
        proxy.faults[:] = [Fault("denied", "GET", "a.bin")]
        with store.open("a.bin") as file, pytest.raises(OutputError, match="Access Denied"):
            file.read()

    def test_what_cannot_be_removed_is_said(self, proxy, bucket, client, monkeypatch):
        put_all(client, bucket, {"a": b"", "b/c": b""}, "out/records/")
        store = Store(f"s3://{bucket}/out", storage(proxy))
        proxy.faults.append(Fault("denied", "POST", "delete"))
        with pytest.raises(OutputError, match=r"Cannot remove .*records: Access Denied"):
            store.remove("records")
        # AWS answers 200 with an entry per object where a policy protects some of them.
        filesystem = store.filesystem
        monkeypatch.setattr(type(filesystem), "_bulk_delete", lambda self, keys: nothing())
        with pytest.raises(OutputError, match="2 objects of it are still there"):
            store.remove("records")
        monkeypatch.undo()
        proxy.clear()
        store.remove("records")
        store.remove("records")
        assert store.names() == []


async def nothing() -> list:
    return []


@pytest.fixture
def small_parts(monkeypatch):
    """Files of more than 10 MB are sent in parts of 5 MB."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 << 20)


class TestFaultsInARun:
    def test_nothing_is_lost_when_everything_fails_now_and_then(
        self, run, proxy, photos, undisturbed, bucket, client, impatient
    ):
        kinds = ("error", "slow_down", "reset", "half", "lost")
        proxy.faults += [Fault(kind, share=0.05) for kind in kinds]
        out = f"s3://{bucket}/out"
        run(photos, out, proxy, "read.storage.attempts=20")
        assert all(fault.hits for fault in proxy.faults)
        assert content(client, out, "records/") == content(client, undisturbed, "records/")

    def test_what_lasts_for_one_photo_is_its_row(self, run, proxy, photos, bucket, client, impatient):
        proxy.faults.append(Fault("slow_down", "GET", r"faces/two words \.jpg"))
        proxy.faults.append(Fault("stall", "GET", "faces/plain.jpg"))
        out = f"s3://{bucket}/out"
        run(photos, out, proxy, "read.storage.attempts=2", "read.storage.timeout_s=3")
        failed = {"two words .jpg": "read_failed", "plain.jpg": "timeout"}
        assert codes(rows_of(client, out)) == EXPECTED | failed

    def test_photos_that_are_refused_in_mid_run_are_recorded(self, run, proxy, photos, bucket, client):
        proxy.faults.append(Fault("denied", "GET", r"faces/[^?]*$", skip=2))
        out = f"s3://{bucket}/out"
        result = run(photos, out, proxy, limit=6)
        assert result.counts.error_codes["access_denied"] == 4
        denied = [row for row in rows_of(client, out).values() if row["error_code"] == "access_denied"]
        assert {row["error_message"] for row in denied} == {"Access denied: Access Denied."}

    @pytest.mark.slow
    def test_an_output_that_is_refused_in_mid_run_stops_it_and_it_goes_on(
        self, facet, proxy, photos, undisturbed, bucket, client, random_weights
    ):
        out = f"s3://{bucket}/out"
        settings = {
            "normals.weights": random_weights,
            "plan.shard_size": 4,
            "plan.chunk_size": 2,
            "engine.cpus": 1,
            "output.report": "false",
            "read.storage.endpoint_url": proxy.url,
            "read.storage.region": "us-east-1",
        }
        given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        arguments = [photos, out, "--engine", "local", *given]
        proxy.faults.append(Fault("denied", "PUT", "records/", skip=1))
        code, _, stderr = facet(*arguments)
        assert code == 2
        assert "Traceback" not in stderr
        last = stderr.strip().splitlines()[-1]
        assert last.startswith("facet: Cannot write ")
        assert "records/shard-00001.parquet: Access Denied." in last
        state = json.loads(content(client, out)["run.json"])
        assert (state["status"], state["counts"]["images"]) == ("failed", 4)
        proxy.clear()
        assert facet(*arguments)[0] == 0
        assert content(client, out, "records/") == content(client, undisturbed, "records/")

    def test_photos_deleted_or_changed_after_the_plan(self, run, proxy, bucket, client):
        names = [f"{number}.jpg" for number in range(6)]
        put_all(client, bucket, {name: photo(number) for number, name in enumerate(names)})
        out = f"s3://{bucket}/out"
        proxy.faults.append(Fault("denied", "PUT", "records/"))
        with pytest.raises(OutputError):
            run(f"s3://{bucket}/faces", out, proxy)
        proxy.clear()
        client.delete_object(Bucket=bucket, Key="faces/1.jpg")
        client.put_object(Bucket=bucket, Key="faces/2.jpg", Body=photo(99))
        run(f"s3://{bucket}/faces", out, proxy)
        rows = rows_of(client, out)
        assert codes(rows) == dict.fromkeys(names) | {"1.jpg": "not_found"}
        assert rows["2.jpg"]["sha256"] == sha256(photo(99))
        assert rows["3.jpg"]["sha256"] == sha256(photo(3))


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


class TestSecrets:
    def test_they_are_in_no_output(
        self, swift, facet, client, photos, bucket, tmp_path, monkeypatch, random_weights
    ):
        source, _, prefix = photos.removeprefix("s3://").partition("/")

        def presigned(key: str) -> str:
            return client.generate_presigned_url("get_object", {"Bucket": source, "Key": key}, 600)

        good, missing = presigned(f"{prefix}/plain.jpg"), presigned(f"{prefix}/missing.jpg")
        wrong = good[:-6] + "abcdef"
        password = good.replace("http://", "http://somebody:pass-word-1@")
        nobody = "http://somebody:pass-word-2@127.0.0.1:1/a.jpg?sig=to-ken-3"
        lines = [good, good, missing, wrong, password, nobody]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        monkeypatch.setenv("MY_SECRET_TOKEN", "to-ken-4-of-the-environment")
        out = tmp_path / "out"
        options = [f"normals.weights={random_weights}", "read.storage.attempts=1", "engine.cpus=1"]
        given = [part for option in options for part in ("--set", option)]
        code, stdout, stderr = facet(f"{tmp_path}/list.txt", str(out), "--engine", "local", *given)
        assert code == 0
        texts = {path.name: path.read_text() for path in [*out.rglob("*.json"), *out.rglob("*.html")]}
        texts |= {"stdout": stdout, "stderr": stderr}
        rows = pq.read_table(next((out / "records").iterdir())).to_pylist()
        texts |= {f"message {number}": row["error_message"] or "" for number, row in enumerate(rows)}
        signature = good.rpartition("=")[2]
        for name, text in texts.items():
            for secret in (signature, wrong[-30:], "pass-word", "to-ken", "Signature="):
                assert secret not in text, name
        assert "plain.jpg" in texts["index.html"]
        # The records say which photo it was; whoever may read them could read the list.
        assert {row["uri"] for row in rows} == set(lines)
        assert sorted(filter(None, (row["error_code"] for row in rows))) == [
            "access_denied",
            "access_denied",
            "not_found",
            "read_failed",
        ]

    @pytest.mark.parametrize(
        "source",
        [
            "http://somebody:pass-word@127.0.0.1:1/list.txt?sig=to-ken",
            "s3://somebody:pass-word@bucket/list.txt",
            "nonsense://somebody:pass-word@bucket/list.txt",
        ],
    )
    def test_the_inputs_own_url(self, source):
        with pytest.raises(InputError) as caught:
            list(list_input(source, StorageConfig(attempts=1)))
        assert "pass-word" not in caught.value.message
        assert "to-ken" not in caught.value.message

    def test_a_traceback_that_is_asked_for(self, facet, random_weights):
        given = [f"normals.weights={random_weights}", "read.storage.attempts=1"]
        settings = [part for setting in given for part in ("--set", setting)]
        code, _, stderr = facet(
            "http://me:pass-word@127.0.0.1:1/a.txt?sig=to-ken", "out", "--debug", *settings
        )
        assert code == 2
        assert "Traceback" in stderr
        assert "pass-word" not in stderr
        assert "to-ken" not in stderr

    def test_texts_of_libraries(self, monkeypatch):
        from pipeline.redact import redact

        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=abcdefgh")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "short")
        assert (
            redact("no AccountKey=abcdefgh at 'https://u:p@host/a?sig=1', short")
            == "no *** at 'https://host/a', short"
        )
        signed = "https://me:se'cret@host/it's.jpg?sig=secret"
        assert redact(f"'{signed}', or {signed}.") == "'https://host/it's.jpg', or https://host/it's.jpg"
        assert (
            redact("abfs://faces@account.dfs.core.windows.net/a")
            == "abfs://faces@account.dfs.core.windows.net/a"
        )


def test_landmarks_are_where_the_photos_are(run, swift, client, bucket, photos):
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).uniform(30, 130, (68, 2)))
    client.put_object(Bucket=bucket, Key="marks/plain.npy", Body=file.getvalue())
    out = f"s3://{bucket}/by-landmarks"
    options = ["detect.mode=files", f"detect.landmarks=s3://{bucket}/marks"]
    run(photos, out, swift, *options)
    with_faces = {name for name, row in rows_of(client, out).items() if row["faces"]}
    assert "plain.jpg" in with_faces
    assert "no suffix" not in with_faces


class TestTraining:
    @pytest.mark.slow
    def test_data_checkpoints_and_weights_in_a_bucket(
        self, swift, client, bucket, facet, monkeypatch, tmp_path
    ):
        for name, value in swift.environment.items():
            monkeypatch.setenv(name, value)
        rows = Path(write_rows(tmp_path / "spheres.parquet", [sphere_row(i, 32) for i in range(24)]))
        client.put_object(Bucket=bucket, Key="rows/spheres.parquet", Body=rows.read_bytes())
        settings = {
            "steps": 4,
            "stages": "[{size: 32, batch_size: 2}]",
            "precision": "fp32",
            "optimiser.warmup_steps": 2,
            "data.threads": 1,
            "data.validation": 0.2,
            "output.log_seconds": 1e6,
            "output.validate_minutes": 1e6,
            "output.checkpoint_minutes": 1e-9,
            "output.keep": 10,
            "passes.image_to_image": 2,
            "passes.normals_to_normals": 2,
        }
        given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        train_step = Trainer._train_step

        class Killed(Exception):
            pass

        def stop(self, *arguments):
            if self.step == 2:
                raise Killed
            return train_step(self, *arguments)

        monkeypatch.setattr(Trainer, "_train_step", stop)
        remote = ["--local", "--data", f"s3://{bucket}/rows", "--out", f"s3://{bucket}/run", *given]
        with pytest.raises(Killed):
            train_command.main(remote, standalone_mode=False)
        assert "checkpoints/step-000000002.pt" in content(client, f"s3://{bucket}/run")
        monkeypatch.setattr(Trainer, "_train_step", train_step)
        train_command.main(remote, standalone_mode=False)
        local = ["--local", "--data", str(rows), "--out", f"{tmp_path}/run", *given]
        train_command.main(local, standalone_mode=False)
        files = content(client, f"s3://{bucket}/run")
        assert {name.partition("/")[0] for name in files} == {
            path.name for path in (tmp_path / "run").iterdir()
        }
        weights = "weights/compact.safetensors"
        assert files[weights] == (tmp_path / "run" / weights).read_bytes()
        assert not [name for name in files if name.endswith(".part")]
