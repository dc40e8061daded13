"""A model folder as one TensorFlow module with five signatures, which runs without this package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.configuration import software_versions
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.operators import PrismDegradation
from kspecsr.model_folder import load_composed
from kspecsr.model_settings import read_settings, weights_hash
from kspecsr.models import redshift_bins
from kspecsr.results.data import ModelIdentity
from kspecsr.results.flags import INVALID_REDSHIFT, INVALID_WAVELENGTH, STATUS_BITS
from kspecsr.results.interpretation import Interpreter
from kspecsr.results.prism_input import MASKED_ERROR, prism_wavelength
from kspecsr.serving.resampling_graph import resample_to
from kspecsr.serving.signatures import SIGNATURES, identity_text

# Operators are megabytes, and appear in the graphs of all five signatures; what is below this adds up to
# little.
_LARGE = 16_384  # bytes: smaller constants stay in the graph


class SharedConstants:
    """Large constants of traced functions as variables: each is once in the file, whichever functions use it.

    Attributes:
        variables: the constants, to be tracked by the saved module.
    """

    def __init__(self):
        self.variables: list[tf.Variable] = []
        self._by_content: dict[bytes, tf.Variable] = {}

    def without(self, function: tf.types.experimental.ConcreteFunction) -> Callable:
        """The same function with its large constants read from variables.

        ``CheckNumerics``, which Keras puts behind a Cholesky factorisation, is left out too: it would raise
        for a whole batch, but the NaN of a bad spectrum stay with that spectrum.

        Args:
            function: traced function of tensors, with an input signature.

        Returns:
            Callable for use inside another traced function, with the same arguments and results.
        """
        graph = function.graph
        definition = graph.as_graph_def()
        constants, kept = {}, []
        for node in definition.node:
            # Arguments are mapped to tensors of the outer graph when the definition is imported.
            if node.op == "Placeholder":
                continue
            if node.op == "Const" and node.attr["value"].tensor.ByteSize() > _LARGE:
                constants[node.name] = self._variable(node.attr["value"].tensor)
                continue
            if node.op == "CheckNumerics":
                node.op = "Identity"
                del node.attr["message"]
            kept.append(node)
        # control inputs of constants that are gone
        for node in kept:
            wanted = [
                name for name in node.input if name.removeprefix("^") not in constants or name[0] != "^"
            ]
            node.ClearField("input")
            node.input.extend(wanted)
        definition.ClearField("node")
        definition.node.extend(kept)
        explicit = function.inputs[: len(function.inputs) - len(graph.captures)]
        names = [tensor.name for tensor in function.outputs]

        def call(*arguments: tf.Tensor):
            # Weights are captured by the first trace; they must be captured anew by the function that this
            # one is called in.
            outer_graph = tf.compat.v1.get_default_graph()
            inputs = dict(zip((tensor.name for tensor in explicit), arguments, strict=True))
            inputs |= {inner.name: outer_graph.capture(outer) for outer, inner in graph.captures}
            inputs |= {f"{name}:0": variable.read_value() for name, variable in constants.items()}
            outputs = tf.graph_util.import_graph_def(
                definition, input_map=inputs, return_elements=names, name="kspecsr"
            )
            return tf.nest.pack_sequence_as(function.structured_outputs, outputs)

        return call

    def _variable(self, content) -> tf.Variable:
        array = tf.make_ndarray(content)
        key = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
        if key not in self._by_content:
            variable = tf.Variable(array, trainable=False, name=f"constant{len(self.variables)}")
            self._by_content[key] = variable
            self.variables.append(variable)
        return self._by_content[key]


_SECOND_STAGE = ("redshift", "redshift_probability", "redshift_none", "class_probability")
Tensors = dict[str, tf.Tensor]


class ServedModel(tf.Module):
    """The three stages with everything around them: masks in, flags and NaN out.

    Attributes:
        identity: name, hash and grid of the model.
        bins: (Z,) ln(1 + z) of P(z).
        functions: signature to concrete function, as `kspecsr.serving.SIGNATURES` describes them.

    Args:
        network: composed model.
        identity: name, hash and grid of the model.
        bins: (Z,) ln(1 + z) of P(z).
    """

    def __init__(self, network: keras.Model, identity: ModelIdentity, bins: np.ndarray):
        super().__init__(name="kspecsr")
        self.identity, self.bins = identity, bins
        self._text = identity_text(identity, bins)
        self._target = prism_wavelength()
        degradation = PrismDegradation(plain_grid(identity.grid), dtype="float32")
        interpretation = Interpreter(
            identity,
            bins,
            xp=keras.ops,
            degrade=lambda flux: tf.cast(degradation(tf.cast(flux, tf.float32)), tf.float64),
        )
        # A graph of its own: neither lines nor direct fit are computed for a redshift alone.
        outputs = {name: network.output[name] for name in _SECOND_STAGE if name in network.output}
        second = keras.Model(network.inputs, outputs)
        shared = SharedConstants()
        # Traced twice: the first trace is where the constants are found, the second reads them from
        # variables.
        everything = self._traced(_answer_of(network, interpretation.everything), tf.bool)
        redshift = self._traced(_answer_of(second, interpretation.redshift))
        # each once in the file, however many signatures call it
        self._everything = self._traced(shared.without(everything), tf.bool)
        self._redshift = self._traced(shared.without(redshift))
        # a module saves the variables that it can reach by attributes; those of a traced function are lost
        self._weights = list(everything.variables)
        self._constants = shared.variables
        # the methods below have the signatures' names
        self.functions = {name: self._signature(name, getattr(self, f"_{name}")) for name in SIGNATURES}

    @classmethod
    def from_folder(cls, folder: str | os.PathLike) -> ServedModel:
        """Load a model folder, calibrated.

        Raises:
            ModelFolderError: for a folder without a complete, undamaged model.
        """
        settings = read_settings(folder)
        software = software_versions("keras", "tensorflow")
        lines = settings.preset.model.lines
        identity = ModelIdentity(settings.name, weights_hash(folder), settings.grid, software, lines)
        return cls(load_composed(folder), identity, redshift_bins(settings.preset.model))

    def _traced(self, call: Callable, *further: tf.DType) -> tf.types.experimental.ConcreteFunction:
        """Trace a function of flux, error (B, P) float64, mask (B, P), redshift (B,) float64, others (B,)."""
        types = (tf.float64, tf.float64, tf.bool)
        # Rows are left open: a server joins requests to batches of any size.
        specifications = [tf.TensorSpec((None, self._target.size), dtype) for dtype in types]
        specifications += [tf.TensorSpec((None,), dtype) for dtype in (tf.float64, *further)]
        return tf.function(call, specifications, autograph=False).get_concrete_function()

    def _signature(self, name: str, call) -> tf.types.experimental.ConcreteFunction:
        """Trace a call with the inputs and outputs that the signature names."""
        signature = SIGNATURES[name]
        length = {"P": [self._target.size], "n": [None], "": []}
        specifications = [
            tf.TensorSpec([None, *length[array.axis]], array.dtype, name=key)
            for key, array in signature.inputs.items()
        ]
        keys = list(signature.inputs)

        def answer(*values):
            outputs = call(**dict(zip(keys, values, strict=True)))
            outputs["model"] = tf.fill(tf.shape(outputs["status"]), self._text)
            # An output that is an input too (the mask) needs a node of its own to have a name of its own.
            return {key: tf.identity(outputs[key], name=key) for key in signature.outputs if key in outputs}

        # Without AutoGraph: there is no Python branching on tensors, and its rewritten code would be what
        # tracebacks show.
        return tf.function(answer, specifications, autograph=False).get_concrete_function()

    def _serving_default(self, flux, error, mask) -> Tensors:
        return self._everything(*_masked(flux, error, mask), _unknown(flux), _kept(flux, False))

    def _classify_redshift(self, flux, error, mask) -> Tensors:
        return self._redshift(*_masked(flux, error, mask), _unknown(flux))

    def _keep_flagged(self, flux, error, mask, redshift) -> Tensors:
        return self._with_redshift(flux, error, mask, redshift, keep=True)

    def _with_redshift(self, flux, error, mask, redshift, keep=False) -> Tensors:
        # an invalid redshift must not pass for one that is to be inferred
        invalid = (redshift < 0) | tf.math.is_inf(redshift)
        redshift = tf.where(invalid, tf.constant(np.nan, redshift.dtype), redshift)
        prism = _masked(flux, error, mask | invalid[:, None])
        outputs = self._everything(*prism, tf.cast(redshift, tf.float64), _kept(flux, keep))
        return _with_bit(outputs, INVALID_REDSHIFT, invalid)

    def _from_wavelength(self, wavelength, flux, error) -> Tensors:
        *prism, valid = resample_to(self._target, wavelength, flux, error)
        flux, error, mask = _masked(*prism)
        outputs = self._everything(flux, error, mask, _unknown(flux), _kept(flux, False))
        seen = {"prism_flux": tf.cast(flux, tf.float32), "prism_error": tf.cast(error, tf.float32)}
        return {**_with_bit(outputs, INVALID_WAVELENGTH, ~valid), **seen, "prism_mask": mask}


def _answer_of(network: keras.Model, interpret: Callable) -> Callable:
    """Networks and interpretation in one: float64 in the interpretation, float32 in the answer."""

    def call(flux, error, mask, redshift, *keep):
        batch = {
            "prism_flux": tf.cast(flux, tf.float32),
            "prism_error": tf.cast(error, tf.float32),
            "prism_mask": mask,
            "redshift": tf.cast(redshift, tf.float32),
        }
        outputs = network(batch, training=False)
        outputs = {name: tf.cast(values, tf.float64) for name, values in outputs.items()}
        reported = interpret((flux, error, mask), outputs, redshift, *keep)
        return {
            name: tf.cast(values, tf.float32) if values.dtype == tf.float64 else values
            for name, values in reported.items()
        }

    return call


def _masked(flux, error, mask) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Flux, error (B, P) float64 and mask (B, P), with pixels masked that float32 cannot hold."""
    flux, error = tf.cast(flux, tf.float64), tf.cast(error, tf.float64)
    # Judged in float32, in which the networks see it: 1e39 is finite in float64 alone.
    usable = tf.math.is_finite(tf.cast(flux, tf.float32)) & tf.math.is_finite(tf.cast(error, tf.float32))
    bad = mask | ~usable | ~(tf.cast(error, tf.float32) > 0)
    masked = tf.constant(MASKED_ERROR, tf.float64)
    return tf.where(bad, tf.zeros_like(flux), flux), tf.where(bad, masked, error), bad


def _unknown(flux: tf.Tensor) -> tf.Tensor:
    """(B,) NaN."""
    return tf.fill(tf.shape(flux)[:1], tf.constant(np.nan, tf.float64))


def _kept(flux: tf.Tensor, keep: bool) -> tf.Tensor:
    """(B,) whether flagged spectra keep their lines."""
    return tf.fill(tf.shape(flux)[:1], keep)


def _with_bit(outputs: Tensors, name: str, rows: tf.Tensor) -> Tensors:
    return {**outputs, "status": outputs["status"] + STATUS_BITS[name] * tf.cast(rows, tf.int32)}
