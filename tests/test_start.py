"""What is wrong on a command line is said at once, and how far a run is soon after."""

import json
import subprocess
import sys
from pathlib import Path

from pipeline.images.items import ListedFile, one_photo_each
from pipeline.run.config import PlanConfig
from pipeline.run.plan_photos import write_plan
from pipeline.storage.store import Store

HEAVY = {"cv2", "numpy", "onnxruntime", "pandas", "pyarrow", "ray", "rich", "scipy", "torch"}

EACH = """
import sys
from jobs.cli import main
for arguments in {commands}:
    sys.argv = ["facet", *arguments]
    try:
        main()
    except SystemExit as done:
        assert done.code == {code}, (arguments, done.code)
    found = {{name.partition(".")[0] for name in sys.modules}} & {heavy}
    assert not found, (arguments, found)
"""


def run_each(commands: list[list[str]], code: int) -> None:
    script = EACH.format(commands=commands, code=code, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mistyped_option_imports_nothing_large():
    from jobs.cli import COMMANDS

    run_each([[name, "--mistyped"] for name in COMMANDS], 2)


def test_status_imports_nothing_large(tmp_path: Path):
    store = Store(str(tmp_path))
    write_plan(store, one_photo_each([ListedFile(1, "/a.jpg")]), PlanConfig())
    state = {"kind": "facet normals", "status": "running", "started": "2026-03-01T12:00:00+00:00"}
    store.write("run.json", json.dumps(state).encode())
    run_each([["status", str(tmp_path)]], 0)
