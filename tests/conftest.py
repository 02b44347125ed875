"""Fixtures that several test files share."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.assets import find_ict_facekit

# Several processes run tests at the same time: threads that wait for each other's cores cost more than they
# bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and their processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Takes away what an entry point that ran in this process did to the logs: later tests read outputs."""
    loggers = [logging.getLogger(), logging.getLogger("pipeline")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture(scope="session")
def ict_facekit() -> Path:
    """Folder of the ICT-FaceKit model."""
    folder = SHARED / "ict_facekit"
    return folder if folder.exists() else find_ict_facekit().parent


@pytest.fixture(scope="session")
def lee_perry_smith() -> Path:
    """Folder of the head scan with true normals; skipped where there is none."""
    folder = SHARED / "eval" / "lee_perry_smith"
    if not folder.exists():
        pytest.skip("the head scan is not at hand")
    return folder


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    """A real S3 server; see `swift_server`."""
    from importlib.util import find_spec

    from swift_server import SwiftServer

    if find_spec("swift") is None:
        pytest.skip("OpenStack Swift, the S3 server of these tests, is not installed: it runs on Linux alone")
    with SwiftServer(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture
def moto_bucket():
    """S3 in this process with an empty bucket `facet`: storage configuration and client."""
    from moto_s3 import moto_s3

    with moto_s3(attempts=1) as (storage, client):
        client.create_bucket(Bucket="facet")
        yield storage, client


@pytest.fixture(scope="session")
def astronaut():
    """scikit-image's photo of an astronaut, (512, 512, 3) uint8 RGB, public domain."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """File of untrained weights of the compact network: enough wherever the answer's quality is no matter."""
    import torch

    from pipeline.normals.architectures import build_network
    from pipeline.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(build_network("compact"), path, half=True)
    return path


@pytest.fixture(scope="session")
def mixed_photos(tmp_path_factory) -> tuple[Path, dict]:
    """Folder of good, broken, odd and hostile files; name -> what the record of the file must say."""
    from bad_images import make_bad_images

    folder = tmp_path_factory.mktemp("mixed photos")
    return folder, make_bad_images(folder)


@pytest.fixture(scope="session")
def mixed_run(mixed_photos, random_weights, tmp_path_factory) -> Path:
    """Run folder of the main job over `mixed_photos`, in this process, on more threads than workers have."""
    import torch
    from normals_run import run_normals

    from pipeline.config import load_config
    from pipeline.recipes.normals import NormalsRun

    out = tmp_path_factory.mktemp("mixed") / "run"
    options = [
        f"normals.weights={random_weights}",
        "plan.shard_size=16",
        "engine.name=local",
        "engine.cpus=1",
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    run_normals(str(mixed_photos[0]), str(out), load_config(NormalsRun, None, options))
    torch.set_num_threads(threads)
    return out
