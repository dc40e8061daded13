"""A model folder written as a version of a SavedModel, complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from kspecsr.result import ModelIdentity
from kspecsr.serving.graph_operations import foreign_operations, graph_operations
from kspecsr.serving.served_model import ServedModel
from kspecsr.serving.server_files import write_description, write_server_files
from kspecsr.serving.warm_up import write_warm_up

_OF_GRAPHS = re.compile(r"\{\{.*?\}\} | \[Op:\w+\]")  # what TensorFlow adds for readers of graphs
LARGEST_SIZE = 40e6  # bytes of one version: it lies in a repository


class ExportError(ValueError):
    """A model that cannot be exported as asked."""


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        folder: of the version.
        identity: of the model.
        size: bytes.
        operations: kinds of TensorFlow operations in it.
    """

    folder: Path
    identity: ModelIdentity
    size: int
    operations: int


def export_model(
    model: str | os.PathLike, output: str | os.PathLike, version: int | None = None
) -> ExportedModel:
    """Writes a version, and settings and README beside it.

    Args:
        model: model folder.
        output: folder of all versions; its name is what the server calls the model.
        version: number; None for the next free one.

    Raises:
        ExportError: for a version that is there, or a model with operations that a stock server lacks, or
            too large.
        ModelFolderError: for a folder without a complete, undamaged model.
        OSError: where nothing can be written, or not all of it.
    """
    output = Path(output)
    version = next_version(output) if version is None else version
    folder = output / str(version)
    if folder.exists():
        raise ExportError(
            f"{folder}: is there already; give another --version, or none for the next free one"
        )
    served = ServedModel.from_folder(model)
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / f".{version}.{os.getpid()}.part"
    try:
        tf.saved_model.save(
            served,
            os.fspath(temporary),
            signatures=dict(served.functions),
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        write_warm_up(temporary, output.name)
        write_description(temporary, served.identity, served.bins)
        if foreign := foreign_operations(temporary):
            raise ExportError(
                f"{model}: needs {', '.join(foreign)}, which a stock TensorFlow server lacks; expected stock "
                "operations alone. Which layer is it of?"
            )
        size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        if size > LARGEST_SIZE:
            raise ExportError(
                f"{model}: {size / 1e6:.1f} MB as a SavedModel, expected {LARGEST_SIZE / 1e6:.0f} at most"
            )
        os.replace(temporary, folder)
    except tf.errors.OpError as error:  # TensorFlow writes files by operations: a full disk, no permission
        raise OSError(f"{folder}: cannot be written: {_OF_GRAPHS.sub('', error.message)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    write_server_files(output, served.identity, served.bins)
    return ExportedModel(folder, served.identity, size, len(graph_operations(folder)))


def next_version(output: Path) -> int:
    """One more than the highest version in a folder; 1 where there is none."""
    numbers = [int(path.name) for path in output.glob("*") if path.name.isdecimal()]
    return max(numbers, default=0) + 1
