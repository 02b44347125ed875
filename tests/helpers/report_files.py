"""The run.json of a report in the tests, and how its photos are read."""

from pipeline.errors import ReadError
from pipeline.images.decode import DecodeConfig, decode_image

RUN = {
    "input": "photos/",
    "output": "out/",
    "status": "complete",
    "started": "2026-01-02T03:04:05Z",
    "seconds": 20.0,
    "engine": "local",
    "config": {"output": {"convention": "opengl", "bits": 8}},
    "models": {"weights": {"name": "compact", "architecture": "compact", "sha256": "12ab" * 16}},
    "notes": ["hidden files left out: 2"],
    "versions": {"facet": "0.1.0", "torch": "2.13.0"},
    "counts": {"images": 10, "stage_seconds": {"read": 1.0, "crop": 8.0, "normals": 4.0, "write": 2.0}},
}


def read_files(uris):
    """Reads local files as the run's own reader would."""
    found = []
    for uri in uris:
        try:
            with open(uri, "rb") as file:
                found.append(file.read())
        except OSError as error:
            found.append(ReadError(str(error)))
    return found


def decode(data):
    return decode_image(data, DecodeConfig())
