"""Weights by name: found in a registry, checked by digest, stored without pickles.

Two folders hold weights, each with a `registry.yaml`: the one shipped with Facet, and the user's own,
where imported and trained weights go (`FACET_WEIGHTS`, else `$XDG_DATA_HOME/facet/weights`).

    weights:
    - name: compact                    what `--weights` takes
      architecture: compact            of the network, see `pipeline.normals.architectures`
      file: compact.safetensors        beside the registry
      sha256: 0d1f...                  of the file; checked at every load
      licence: Apache-2.0
      trained_how: one paragraph
      scores: {evaluation set: {metric: value}}

      int8: {file: compact.int8.onnx, sha256: 5e0b...}     the same network for processors with fast int8

The safetensors hold parameters in fp32 or fp16; the networks compute in their own precision. Where only the
finished network is needed its file is ONNX. Nothing here needs torch but to write parameters. Codes of
`WeightsError` besides weights_invalid: weights_unknown (no such name), weights_missing (a registered file
is gone), weights_checksum (a file is not the registered one).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from pydantic import Field, ValidationError

from pipeline.config import Section
from pipeline.errors import WeightsError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)

DEFAULT = "compact"
REGISTRY = "registry.yaml"


class Int8File(Section):
    """An ONNX file beside a registry, made of the weights by `pipeline.normals.quantise`."""

    file: str = Field(pattern=r"^[^/\\\\]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WeightsEntry(Section):
    """One set of weights in a registry.

    Attributes:
        name: What the user calls it.
        architecture: Network that the weights are of.
        file: Name of the safetensors or ONNX file, in the folder of the registry.
        sha256: Hexadecimal digest of the file.
        licence: Licence of the weights.
        trained_how: Where they come from.
        scores: Evaluation set -> metric -> value.
        int8: The same network with int8 convolutions.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    architecture: str
    file: str = Field(pattern=r"^[^/\\]+\.(safetensors|onnx)$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = "unknown"
    trained_how: str = ""
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    int8: Int8File | None = None


@dataclass(frozen=True)
class WeightsFile:
    """Weights as they were read, checked by their digest.

    Attributes:
        entry: What is known of them.
        path: The file.
        data: Its bytes, safetensors.
        int8: The ONNX file with int8 convolutions, where the entry has one.
    """

    entry: WeightsEntry
    path: Path
    data: bytes
    int8: bytes | None = None

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns the parameters by name, fp32, fp16 or integers.

        Raises:
            WeightsError: It is no safetensors file.
        """
        import safetensors.numpy

        try:
            return safetensors.numpy.load(self.data)
        except (safetensors.SafetensorError, KeyError, TypeError) as error:  # or a type that NumPy lacks
            raise WeightsError(f"{self.path} is no safetensors file: {error}.") from error


class StoredNetwork(Protocol):
    """What is stored of a network."""

    architecture: str

    def state_dict(self) -> Mapping[str, Tensor]:
        """Returns the parameters by name."""


class _Registry(Section):
    weights: tuple[WeightsEntry, ...] = ()


def shipped_folder() -> Path:
    """Folder of the weights that come with Facet: in a checkout `weights/`, in a wheel inside the package."""
    package = Path(__file__).resolve().parent
    packed = package / "_data" / "weights"
    return packed if packed.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """Folder of the user's own weights; need not exist."""
    if os.environ.get("FACET_WEIGHTS"):
        return Path(os.environ["FACET_WEIGHTS"])
    # Not Path.home(), which fails for a user that no list of users knows, as in containers.
    data_home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data_home) / "facet" / "weights"


def list_weights() -> list[tuple[WeightsEntry, Path]]:
    """Returns all registered weights with the paths of their files, shipped ones first.

    A name in the user's folder that is also shipped is left out: a name means one set of weights. So is, with
    a warning, a folder that may not be read: services run with the home of somebody else.

    Raises:
        WeightsError: A registry is not valid.
    """
    found: dict[str, tuple[WeightsEntry, Path]] = {}
    for folder in (shipped_folder(), user_folder()):
        try:
            entries = read_registry(folder)
        except WeightsError as error:
            if folder == shipped_folder() or not isinstance(error.__cause__, PermissionError):
                raise
            log.warning("Weights of your own are left out. %s", error.message)
            continue
        for entry in entries:
            found.setdefault(entry.name, (entry, folder / entry.file))
    return list(found.values())


def find_weights(name: str) -> tuple[WeightsEntry, Path]:
    """Returns the entry of a name and the path of its file, which is not opened.

    Raises:
        WeightsError: No weights have this name; the message lists those there are (weights_unknown).
    """
    known = {entry.name: (entry, path) for entry, path in list_weights()}
    if name not in known:
        names = ", ".join(known) or "none"
        raise WeightsError(
            f"There are no weights {name!r}; known: {names}. A file is given by its path, NAME.safetensors.",
            code="weights_unknown",
        )
    return known[name]


def read_weights(name_or_path: str | os.PathLike[str]) -> WeightsFile:
    """Reads weights by their registered name, or from a safetensors file.

    Args:
        name_or_path: A name such as "compact", or the path of a file that `save_weights` wrote. What ends
            in .safetensors or holds a path separator is a path.

    Raises:
        WeightsError: The name is not known, or the file is missing, altered or no such file.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".safetensors", ".pth", ".pt")) or os.sep in text:
        return _read_unregistered(Path(text))
    entry, path = find_weights(text)
    int8 = None
    if entry.int8 is not None:
        int8 = _verified(path.with_name(entry.int8.file), entry.int8.sha256, entry.name)
    return WeightsFile(entry, path, verify_weights(entry, path), int8)


def is_onnx(name_or_path: str) -> bool:
    """Tells whether weights, by name or path, are an ONNX file; an unknown name is none."""
    if name_or_path.endswith(".onnx"):
        return True
    return any(entry.name == name_or_path and path.suffix == ".onnx" for entry, path in list_weights())


def read_onnx(name_or_path: str | Path, int8: bool = False) -> bytes:
    """Reads an ONNX file by its registered name, its digest checked, or by its path.

    Args:
        name_or_path: See `read_weights`.
        int8: Take the file with int8 convolutions where the entry of the name has one.

    Raises:
        WeightsError: The name is not known, or the file is missing, altered or no ONNX file.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".onnx") or os.sep in text:
        return _read(Path(text))
    entry, path = find_weights(text)
    if path.suffix != ".onnx":
        raise WeightsError(f"The weights {entry.name!r} are no ONNX file.")
    if int8 and entry.int8 is not None:
        return _verified(path.with_name(entry.int8.file), entry.int8.sha256, entry.name)
    return verify_weights(entry, path)


def verify_weights(entry: WeightsEntry, path: Path) -> bytes:
    """Reads a registered file and checks its digest.

    Returns:
        The bytes that were checked: reading them again could read others.

    Raises:
        WeightsError: The file cannot be read (weights_missing) or is another one (weights_checksum).
    """
    return _verified(path, entry.sha256, entry.name)


def _verified(path: Path, sha256: str, name: str) -> bytes:
    data = _read(path)
    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise WeightsError(
            f"The weights {name!r} are not the registered ones: {path} has sha256 {digest[:12]}..., "
            f"not {sha256[:12]}.... Restore the file, or import it again.",
            code="weights_checksum",
        )
    return data


def read_registry(folder: Path) -> tuple[WeightsEntry, ...]:
    """Reads the registry of a folder; empty where there is none.

    Raises:
        WeightsError: The registry is not valid; the message says where.
    """
    path = folder / REGISTRY
    try:
        loaded = yaml.safe_load(path.read_text("utf-8"))
        entries = _Registry.model_validate(loaded or {}).weights
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"The registry {path} is not valid: {field}: {first['msg']}.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"Cannot read the registry {path}: {error}.") from error
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise WeightsError(f"The registry {path} holds a name twice.")
    return entries


def save_weights(
    network: StoredNetwork, path: Path, metadata: Mapping[str, str] | None = None, half: bool = False
) -> str:
    """Writes the parameters of a network as safetensors, whole or not at all.

    Returns:
        The sha256 of the file.

    Raises:
        WeightsError: A parameter is not finite, or does not fit into fp16.
    """
    # torch is imported where tensors are read or written: ONNX files are found without it.
    import safetensors.torch
    import torch

    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise WeightsError(f"The network's {broken[0]} is not finite as {dtype}; nothing was written.")
    data = safetensors.torch.save(tensors, {**(metadata or {}), "architecture": network.architecture})
    write_file(path, data)
    return hashlib.sha256(data).hexdigest()


def export_weights(
    network: StoredNetwork,
    name: str,
    folder: Path | None = None,
    *,
    licence: str,
    trained_how: str,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    half: bool = True,
) -> WeightsEntry:
    """Writes a network's weights into a folder and registers them, in place of any of the same name.

    Raises:
        WeightsError: The name is not valid or is that of shipped weights, or a parameter is not finite.
    """
    folder = folder or user_folder()
    shipped = shipped_folder()
    if folder.resolve() != shipped.resolve() and name in {entry.name for entry in read_registry(shipped)}:
        raise WeightsError(f"The name {name!r} is that of shipped weights; take another.")
    fields: dict[str, Any] = {
        "name": name,
        "architecture": network.architecture,
        "file": f"{name}.safetensors",
        "licence": licence,
        "trained_how": trained_how,
        "scores": {key: dict(value) for key, value in (scores or {}).items()},
    }
    try:
        # Validated before anything is written; the digest is known after.
        entry = WeightsEntry(**fields, sha256="0" * 64)
    except ValidationError as error:
        raise WeightsError(
            f"{name!r} cannot name weights: letters, digits, '.', '_' and '-' only."
        ) from error
    digest = save_weights(network, folder / entry.file, {"name": name, "licence": licence}, half)
    entry = entry.model_copy(update={"sha256": digest})
    register_weights(entry, folder)
    return entry


def register_weights(entry: WeightsEntry, folder: Path) -> None:
    """Writes an entry into the registry of a folder, in place of any of the same name.

    Raises:
        WeightsError: The registry is not valid or cannot be written.
    """
    entries = {other.name: other for other in read_registry(folder)} | {entry.name: entry}
    registry = _Registry(weights=tuple(entries.values())).model_dump(mode="json", exclude_none=True)
    write_file(folder / REGISTRY, yaml.safe_dump(registry, sort_keys=False, allow_unicode=True).encode())


def _read_unregistered(path: Path) -> WeightsFile:
    if path.suffix in (".pth", ".pt"):
        raise WeightsError(f"{path} may be a pickle: convert it first, `facet weights import {path}`.")
    data = _read(path)
    try:
        # The format: eight bytes of length, then the header as JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        architecture = header.get("__metadata__", {}).get("architecture")
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is no safetensors file: {error}.") from error
    if architecture is None:
        raise WeightsError(f"{path} does not say of which architecture its weights are.")
    # Not validated: a file may have any name.
    entry = WeightsEntry.model_construct(
        name=path.stem, architecture=architecture, file=path.name, sha256=hashlib.sha256(data).hexdigest()
    )
    return WeightsFile(entry, path, data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}.", code="weights_missing") from error


def write_file(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
        WeightsError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise WeightsError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):  # it has been renamed, or could not be made
            temporary.unlink()
