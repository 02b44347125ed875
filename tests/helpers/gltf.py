"""Reading GLB files back, and Khronos' validator."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
_SCRIPT = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])))
    .then(report => console.log(JSON.stringify(report)));
"""
_TYPES = {5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Validator:
    """Khronos' validator, installed by npm into a folder; skips the test where there is no npm."""

    def __init__(self, folder: Path):
        if shutil.which("node") is None or shutil.which("npm") is None:
            pytest.skip("glTF's validator needs node and npm")
        self._folder = folder
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), VALIDATOR]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        (folder / "validate.js").write_text(_SCRIPT)

    def report(self, data: bytes) -> dict:
        """Returns the validator's report on a GLB file."""
        path = self._folder / "mesh.glb"
        path.write_bytes(data)
        command = ["node", "validate.js", str(path)]
        done = subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=120)
        return json.loads(done.stdout)


class Glb:
    """A GLB file in parts."""

    def __init__(self, data: bytes):
        magic, version, length = struct.unpack("<4sII", data[:12])
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size = struct.unpack("<I", data[12:16])[0]
        self.json = json.loads(data[20 : 20 + size])
        self._binary = data[28 + size :]

    def view(self, index: int) -> bytes:
        """Returns the bytes of a buffer view."""
        view = self.json["bufferViews"][index]
        return self._binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def values(self, index: int) -> np.ndarray:
        """Returns what an accessor holds, (N, C); sparse ones filled up."""
        accessor = self.json["accessors"][index]
        kind, width = _TYPES[accessor["componentType"]], _WIDTHS[accessor["type"]]
        values = np.zeros((accessor["count"], width), kind)
        if "bufferView" in accessor:
            values = np.frombuffer(self.view(accessor["bufferView"]), kind).reshape(-1, width).copy()
        if "sparse" in accessor:
            indices, filled = accessor["sparse"]["indices"], accessor["sparse"]["values"]
            rows = np.frombuffer(self.view(indices["bufferView"]), _TYPES[indices["componentType"]])
            values[rows] = np.frombuffer(self.view(filled["bufferView"]), kind).reshape(-1, width)
        return values
