"""Writing a provisioning folder: what is there already is replaced, what is not ours is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sisock.errors import SetupError


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files by their paths in a folder, each whole or not at all; SetupError says what could not be written."""
    for name, text in files.items():
        path = folder / name
        # A Grafana that looks meanwhile reads the old one or the new one, and takes no notice of this name.
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise SetupError(f"{path} cannot be written: {error.strerror or error}. Name another folder.") from error
