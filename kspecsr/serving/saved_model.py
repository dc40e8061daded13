"""A model folder written as a version of a SavedModel, complete or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from data_pipeline.writers.atomic import replacing
from kspecsr.results.flags import STATUS_BITS, STATUS_MEANINGS
from kspecsr.results.prism_input import prism_wavelength
from kspecsr.results.result import ModelIdentity
from kspecsr.serving.served_model import ServedModel
from kspecsr.serving.signatures import SIGNATURES
from kspecsr.serving.warm_up import write_warm_up

DESCRIPTION_FILE = "description.json"
MODELS_CONFIG = """model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
# Several requests become one batch: 64 spectra at once cost a third to a half of 64 times one. Spectra of
# several lengths (from_wavelength) are filled up by the server; the graph knows what was filled.
BATCHING_CONFIG = """max_batch_size {{ value: 64 }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {threads} }}
pad_variable_length_inputs: true
"""


def description(identity: ModelIdentity, bins: np.ndarray) -> dict:
    """What a caller has to know and signatures do not say: grids, lines, status bits; JSON values.

    Args:
        identity: of the exported model.
        bins: (Z,) ln(1 + z) of P(z).
    """
    grid, lines = identity.grid, load_lines()
    return {
        "name": identity.name,
        "sha256": identity.sha256,
        "software": dict(identity.software),
        "output_wavelength_um": {
            "formula": "start * exp(i / sampling), i = 0 ... size - 1",
            "start": grid.start,
            "sampling": grid.sampling,
            "size": grid.size,
        },
        "redshift_bins": {
            "formula": "z = exp(i * step) - 1, i = 0 ... count - 1",
            "step": float(bins[1] - bins[0]),
            "count": int(bins.size),
        },
        "prism_wavelength_um": [float(one) for one in prism_wavelength()],
        "lines": [
            {"name": name, "rest_wavelength_angstrom": float(wavelength * ANGSTROM_PER_UM)}
            for name, wavelength in zip(lines.names, lines.wavelength, strict=True)
        ],
        "status_bits": {str(bit): f"{name}: {STATUS_MEANINGS[name]}" for name, bit in STATUS_BITS.items()},
    }


def write_description(folder: Path, identity: ModelIdentity, bins: np.ndarray) -> Path:
    """Writes ``assets.extra/description.json`` of an exported version."""
    path = folder / "assets.extra" / DESCRIPTION_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description(identity, bins), indent=1) + "\n", encoding="utf-8")
    return path


def write_server_files(folder: Path, identity: ModelIdentity, bins: np.ndarray, threads: int = 2) -> None:
    """Writes ``models.config``, ``batching.config`` and ``README.md`` beside the versions.

    Args:
        folder: that holds the versions; its name is the model's.
        identity: of the newest version.
        bins: (Z,) ln(1 + z) of P(z).
        threads: batches that the server works on at the same time.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("kspecsr.serving", ""), undefined=jinja2.StrictUndefined, autoescape=False
    )
    readme = templates.get_template("export_readme.md.jinja").render(
        name=folder.name,
        identity=identity,
        signatures=SIGNATURES,
        sizes={"P": prism_wavelength().size, "N": identity.grid.size, "K": len(load_lines()), "Z": bins.size},
        step=float(bins[1] - bins[0]),
        status=[(bit, name, STATUS_MEANINGS[name]) for name, bit in STATUS_BITS.items()],
    )
    texts = {
        "models.config": MODELS_CONFIG.format(name=folder.name),
        "batching.config": BATCHING_CONFIG.format(threads=threads),
        "README.md": readme.rstrip("\n") + "\n",
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


# what TensorFlow registers, and a server of another build may lack or refuse
_FOREIGN = ("Xla", "PyFunc", "EagerPyFunc", "TPU", "Infeed", "Outfeed", "Collective", "NumericalPredict")


def graph_operations(folder: str | os.PathLike) -> Counter[str]:
    """Kind of operation to how often it occurs, in the main graph and in every function.

    Args:
        folder: version of an exported model.

    Raises:
        FileNotFoundError: if it holds no ``saved_model.pb``.
    """
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found: Counter[str] = Counter()
    for meta_graph in model.meta_graphs:
        graph = meta_graph.graph_def
        found.update(node.op for node in graph.node)
        for function in graph.library.function:
            found.update(node.op for node in function.node_def)
    return found


def foreign_operations(folder: str | os.PathLike) -> list[str]:
    """Operations that are not stock TensorFlow, or that need a compiler or Python where the model is served.

    Args:
        folder: as above.
    """
    model_functions = _functions(folder)
    return sorted(
        name
        for name in graph_operations(folder)
        if name.startswith(_FOREIGN) or not (name in model_functions or _is_registered(name))
    )


def _functions(folder: str | os.PathLike) -> set[str]:
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    return {
        function.signature.name
        for meta_graph in model.meta_graphs
        for function in meta_graph.graph_def.library.function
    }


def _is_registered(name: str) -> bool:
    return hasattr(tf.raw_ops, name)


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
