"""Which package may import which: only those below it, and no file its importers."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LAYERS = [
    "errors pixels processes redact regions words",
    "config device onnx_session ray_cluster",
    "storage weights",
    "images",
    "faces run",
    "assets normals",
    "geometry",
    "fitting samples",
    "details points synth",
    "evaluate report",
    "recipes train",
    "bench",
    "jobs",
]
"""Bottom to top; what stands in one line does not know of each other. Missing: `pipeline`, the front door."""

RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(path): path for folder in ("jobs", "pipeline") for path in (ROOT / folder).rglob("*.py")}


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere: at its head, in functions, for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & FILES.keys()


IMPORTS = {module: imported(path) for module, path in FILES.items() if module != "pipeline"}


def package_of(module: str) -> str:
    return module.removeprefix("pipeline.").partition(".")[0]


def test_every_package_has_its_layer():
    assert {package_of(module) for module in IMPORTS} == RANKS.keys()


def test_no_package_imports_one_beside_or_above_it():
    pairs = [(module, other) for module, others in IMPORTS.items() for other in others]
    upward = [
        f"{module} imports {other}"
        for module, other in pairs
        if package_of(module) != package_of(other) and RANKS[package_of(other)] >= RANKS[package_of(module)]
    ]
    assert upward == []


def test_no_circles_of_files():
    graphlib.TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names one
