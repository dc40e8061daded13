"""SHA-256 of the files of a published model: what was altered or cut short is found before it is used."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from data_pipeline.writers.atomic import replacing
from kspecsr.model_settings import ModelFolderError

MANIFEST_FILE = "manifest.json"


def write_manifest(folder: str | os.PathLike) -> Path:
    """Lists all other files of a folder with their size and SHA-256."""
    folder = Path(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    content = {
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files}
    }
    with replacing(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return folder / MANIFEST_FILE


def check_manifest(folder: str | os.PathLike) -> None:
    """Compares a folder with its manifest; one that has none is not checked.

    Raises:
        ModelFolderError: naming the file that is missing or differs.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        return
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        expected = {name: entry["sha256"] for name, entry in files.items()}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFolderError(f"{path}: cannot be read ({error!r}); get an unaltered copy") from None
    for name, sha256 in expected.items():
        file = Path(folder) / name
        if not file.is_file():
            raise ModelFolderError(
                f"{file}: no such file, but {MANIFEST_FILE} lists it; get an unaltered copy"
            )
        found = _sha256(file)
        if found != sha256:
            raise ModelFolderError(
                f"{file}: SHA-256 {found[:12]}, expected {sha256[:12]} ({MANIFEST_FILE}); get an unaltered "
                f"copy, or remove {MANIFEST_FILE} if you changed the model yourself"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
