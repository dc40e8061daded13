"""Export of a model folder as a version of a SavedModel for TensorFlow Serving, complete or not at all."""

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
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from data_pipeline.writers.atomic import replacing
from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results.data import ModelIdentity
from kspecsr.results.flags import FLAG_MEANINGS, STATUS_BITS
from kspecsr.results.prism_input import prism_wavelength
from kspecsr.serving.served_model import ServedModel
from kspecsr.serving.signatures import SIGNATURES

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
# The server joins requests: a batch of 64 spectra costs a third to a half of 64 single ones. It fills up
# spectra of several lengths (from_wavelength); the graph recognises the filling.
BATCHING_CONFIG = """max_batch_size { value: 64 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: true
"""


def description(identity: ModelIdentity, bins: np.ndarray) -> dict:
    """Grids, lines and status bits, which callers need and signatures do not tell; JSON values."""
    grid, lines = identity.grid, load_lines(identity.lines)
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
        "classes": list(OBJECT_CLASSES),
        "status_bits": {str(bit): f"{name}: {FLAG_MEANINGS[name]}" for name, bit in STATUS_BITS.items()},
    }


def write_description(folder: Path, identity: ModelIdentity, bins: np.ndarray) -> Path:
    """Write ``assets.extra/description.json`` of an exported version."""
    path = folder / "assets.extra" / DESCRIPTION_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description(identity, bins), indent=1) + "\n", encoding="utf-8")
    return path


def write_server_files(folder: Path, identity: ModelIdentity, bins: np.ndarray) -> None:
    """Write ``models.config``, ``batching.config`` and ``README.md`` beside the versions of a model.

    The folder's name is the name of the model, the identity that of the newest version.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("kspecsr.serving", ""), undefined=jinja2.StrictUndefined, autoescape=False
    )
    readme = templates.get_template("export_readme.md.jinja").render(
        name=folder.name,
        identity=identity,
        signatures=SIGNATURES,
        sizes={
            "P": prism_wavelength().size,
            "N": identity.grid.size,
            "K": len(load_lines(identity.lines)),
            "Z": bins.size,
            "C": len(OBJECT_CLASSES),
        },
        step=float(bins[1] - bins[0]),
        status=[(bit, name, FLAG_MEANINGS[name]) for name, bit in STATUS_BITS.items()],
    )
    texts = {
        "models.config": MODELS_CONFIG.format(name=folder.name),
        "batching.config": BATCHING_CONFIG,
        "README.md": readme.rstrip("\n") + "\n",
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


WARM_UP_FILE = "tf_serving_warmup_requests"
BATCH_SIZES = (1, 64)
_FLUX, _ERROR, _REDSHIFT = 1e-20, 1e-21, 3.0


def warm_up_inputs(signature: str, batch_size: int) -> dict[str, np.ndarray]:
    """Inputs that send a batch through the whole graph of a signature: flat spectra of S/N 10."""
    wavelength = prism_wavelength()
    # as on the prism's own pixels, but not quite: they must be resampled
    moved = wavelength[:-1] + 0.4 * np.diff(wavelength)
    shape = (batch_size, moved.size if signature == "from_wavelength" else wavelength.size)
    values = {
        "wavelength": np.tile(moved, (batch_size, 1)),
        "flux": np.full(shape, _FLUX),
        "error": np.full(shape, _ERROR),
        "mask": np.zeros(shape, bool),
        "redshift": np.full(batch_size, _REDSHIFT),
    }
    inputs = SIGNATURES[signature].inputs
    return {name: values[name].astype(array.dtype) for name, array in inputs.items()}


def write_warm_up(folder: str | os.PathLike, model_name: str) -> Path:
    """Write requests that a server answers before it takes others: a first answer takes seconds."""
    path = Path(folder) / "assets.extra" / WARM_UP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for size in BATCH_SIZES:
            for signature in SIGNATURES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = model_name
                request.model_spec.signature_name = signature
                for name, values in warm_up_inputs(signature, size).items():
                    request.inputs[name].CopyFrom(_proto(values))
                # The form in which TensorFlow Serving logs requests, and expects those of a warm-up.
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
    return path


def _proto(values: np.ndarray) -> TensorProto:
    """A tensor as a message; short where all values are the same."""
    if np.all(values == values.flat[0]):
        return tf.make_tensor_proto(values.flat[0], values.dtype, values.shape)
    return tf.make_tensor_proto(values)


# operations that TensorFlow registers, but a server of another build may lack or refuse
_FOREIGN = ("Xla", "PyFunc", "EagerPyFunc", "TPU", "Infeed", "Outfeed", "Collective", "NumericalPredict")


def _graphs(folder: str | os.PathLike) -> list[GraphDef]:
    """The main graphs of an exported version."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    return [meta_graph.graph_def for meta_graph in model.meta_graphs]


def graph_operations(folder: str | os.PathLike) -> Counter[str]:
    """Counts of each kind of operation of an exported version, in the main graph and in every function."""
    operations: Counter[str] = Counter()
    for graph in _graphs(folder):
        operations.update(node.op for node in graph.node)
        for function in graph.library.function:
            operations.update(node.op for node in function.node_def)
    return operations


def foreign_operations(folder: str | os.PathLike) -> list[str]:
    """Operations that are not stock TensorFlow, or that need a compiler or Python at the server."""
    functions = {function.signature.name for graph in _graphs(folder) for function in graph.library.function}
    return sorted(
        name
        for name in graph_operations(folder)
        if name.startswith(_FOREIGN) or not (name in functions or hasattr(tf.raw_ops, name))
    )


_OF_GRAPHS = re.compile(r"\{\{.*?\}\} | \[Op:\w+\]")  # names of graph nodes in messages of TensorFlow
LARGEST_SIZE = 40e6  # bytes of one version: the shipped one lies in a git repository


class ExportError(ValueError):
    """A model that cannot be exported as asked."""


@dataclass(frozen=True)
class ExportedModel:
    """A version that was written.

    Attributes:
        folder: folder of the version.
        identity: name, hash and grid of the model.
        size: size on disk [bytes].
        operations: number of kinds of TensorFlow operations in it.
    """

    folder: Path
    identity: ModelIdentity
    size: int
    operations: int


def export_model(
    model: str | os.PathLike, output: str | os.PathLike, version: int | None = None
) -> ExportedModel:
    """Write a version, and settings and README beside it.

    Args:
        model: model folder.
        output: folder of all versions; its name is the name of the model on the server.
        version: number; None for the next free one.

    Raises:
        ExportError: for a version that exists, and for a model that is too large or has operations that a
            stock server lacks.
        ModelFolderError: for a folder without a complete, undamaged model.
        OSError: if not everything can be written.
    """
    output = Path(output)
    version = next_version(output) if version is None else version
    folder = output / str(version)
    if folder.exists():
        raise ExportError(
            f"{folder}: is there already; give another --version, or none for the next free one"
        )
    # Before the folder is made: a damaged model leaves nothing behind.
    served = ServedModel.from_folder(model)
    output.mkdir(parents=True, exist_ok=True)
    temporary = output / f".{version}.{os.getpid()}.part"
    try:
        tf.saved_model.save(
            served,
            os.fspath(temporary),
            signatures=dict(served.functions),
            # Gradients of custom functions are of no use to a server, and would be traced and stored.
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        write_warm_up(temporary, output.name)
        write_description(temporary, served.identity, served.bins)
        # Looked at in the file, not in the graph: saving adds operations of its own.
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
        # A server that watches the folder must never see half a version, and it takes the highest number at
        # once.
        os.replace(temporary, folder)
    except tf.errors.OpError as error:  # TensorFlow writes files by operations: a full disk, no permission
        raise OSError(f"{folder}: cannot be written: {_OF_GRAPHS.sub('', error.message)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # Last: they describe the newest version, which is there now.
    write_server_files(output, served.identity, served.bins)
    return ExportedModel(folder, served.identity, size, len(graph_operations(folder)))


def next_version(output: Path) -> int:
    """One more than the highest version in a folder; 1 for a folder without versions."""
    numbers = [int(path.name) for path in output.glob("*") if path.name.isdecimal()]
    return max(numbers, default=0) + 1
