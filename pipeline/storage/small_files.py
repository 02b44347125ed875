"""Small files of results in a folder of this machine."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import OutputError


def write_small_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files by their names; texts in UTF-8, a line's end behind them.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            data = f"{content}\n".encode() if isinstance(content, str) else content
            (folder / name).write_bytes(data)
    except OSError as error:
        raise OutputError(f"Cannot write to {folder}: {error}.") from error
