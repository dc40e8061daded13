"""Second stage: P(z) by correlation with learned templates in log wavelength (docs/design.md, redshift)."""

import keras
import numpy as np

from kspecsr.configuration import OBJECT_CLASSES, ModelConfig
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.operators import Upsampling
from kspecsr.layers.prism_channels import SignalToNoise, ToGridChannels
from kspecsr.layers.redshift import (
    LogCorrelation,
    LogProbability,
    RedshiftChannels,
    RedshiftEstimate,
    WholeSpectrum,
)
from kspecsr.models.sr1 import normalised, number_input, observed, prism_inputs, sr1_inputs

_REACH = 8  # feature steps around the highest bin from which the redshift is estimated


def redshift_step(config: ModelConfig) -> float:
    """Step of log(1 + z) between two bins."""
    return _feature_step(config) / config.zhead.finer


def redshift_bins(config: ModelConfig) -> np.ndarray:
    """(Z,) log(1 + z) of the bins, from 0."""
    count = config.zhead.finer * (_feature_steps(config) - 1) + 1
    # From the step as a product, not by linspace: the graph computes bins as k times step, and both must be
    # the same numbers.
    return np.arange(count) * redshift_step(config)


def _feature_step(config: ModelConfig) -> float:
    """Step of log wavelength of the features that are correlated."""
    return config.zhead.pooling / config.grid.sampling


def _feature_steps(config: ModelConfig) -> int:
    return int(np.floor(np.log1p(config.zhead.max_redshift) / _feature_step(config))) + 1


def build_zhead(config: ModelConfig) -> keras.Model:
    """Build the second stage.

    Args:
        config: grid and second stage.

    Returns:
        Functional model from the prism, ``sr1_flux`` and ``sr1_error`` [1e-20 erg/s/cm2/A], and a known
        ``redshift`` (B,), NaN where it is to be inferred, to ``redshift_log_probability`` (B, Z) over
        `redshift_bins`, and ``redshift`` and ``redshift_error`` (B,): the given one with error 0, or the main
        mode's. For an open world also ``none_logit`` (B,), of there being no redshift, and
        ``class_log_probability`` (B, C) over `OBJECT_CLASSES`.
    """
    zhead, grid = config.zhead, plain_grid(config.grid)
    inputs = {**prism_inputs(), **sr1_inputs(config), "redshift": number_input("redshift")}
    prism = normalised(inputs)
    noise = SignalToNoise(name="signal_to_noise", dtype="float32")(*observed(prism)[:3])
    maps = ToGridChannels(name="maps", dtype="float32")(noise, prism["good"])
    maps = Upsampling(grid, name="upsampling", dtype="float32")(maps)
    x, coverage = RedshiftChannels(zhead.pooling, name="channels", dtype="float32")(
        inputs["sr1_flux"], inputs["sr1_error"], prism["scale"], maps
    )
    covered = keras.layers.Multiply(name="covered", dtype="float32")
    x = keras.layers.Conv1D(zhead.channels, zhead.kernel, padding="same", name="projection")(x)
    for layer in range(zhead.layers):
        y = keras.layers.RMSNormalization(name=f"norm{layer}")(x)
        y = keras.layers.Conv1D(
            zhead.channels,
            zhead.kernel,
            padding="same",
            dilation_rate=2**layer,
            activation=zhead.activation,
            name=f"conv{layer}",
        )(y)
        y = keras.layers.Dropout(zhead.dropout, name=f"dropout{layer}")(y)
        y = keras.layers.Dense(zhead.channels, name=f"dense{layer}")(y)
        x = keras.layers.Add(name=f"add{layer}")([x, y])
    x = keras.layers.RMSNormalization(name="feature_norm")(x)
    # one feature less: the coverage itself has a template, which weighs what should have been seen
    x = keras.layers.Dense(zhead.templates - 1, dtype="float32", name="features")(x)
    x = keras.layers.Concatenate(name="with_coverage", dtype="float32")([covered([x, coverage]), coverage])
    scores = LogCorrelation(
        steps=_feature_steps(config),
        step=_feature_step(config),
        # A pooled step stands for the middle of its pixels in log wavelength, not for its first.
        start=config.grid.start * float(np.exp(0.5 * (zhead.pooling - 1) / config.grid.sampling)),
        groups=zhead.groups,
        finer=zhead.finer,
        lines=config.lines,
        name="correlation",
        dtype="float32",
    )(x)  # (B, Z, groups)
    y = keras.layers.Dense(
        2 * zhead.groups, activation=zhead.activation, dtype="float32", name="score_dense"
    )(scores)
    small = keras.initializers.VarianceScaling(0.05)
    # A correction to the plain sum of scores, small at first and without bias, which would be the same for
    # all redshifts.
    y = keras.layers.Dense(1, kernel_initializer=small, use_bias=False, dtype="float32", name="score")(y)
    log_probability = LogProbability(name="log_probability", dtype="float32")(scores, y)
    redshift, error = RedshiftEstimate(
        redshift_step(config), reach=_REACH * zhead.finer, name="estimate", dtype="float32"
    )(log_probability, inputs["redshift"])
    outputs = {"redshift_log_probability": log_probability, "redshift": redshift, "redshift_error": error}
    if zhead.open_world:
        # P(z) is normalised and cannot say that nothing fits: how well the best redshift does, beside what
        # the spectrum looks like, can.
        whole = WholeSpectrum(name="whole", dtype="float32")(x, coverage, log_probability)
        whole = keras.layers.Dense(4 * zhead.groups, zhead.activation, dtype="float32", name="whole_dense")(
            whole
        )
        outputs["none_logit"] = keras.layers.Dense(1, dtype="float32", name="none")(whole)[:, 0]
        classes = keras.layers.Dense(len(OBJECT_CLASSES), dtype="float32", name="classes")(whole)
        outputs["class_log_probability"] = keras.layers.Activation(
            "log_softmax", dtype="float32", name="class_log_probability"
        )(classes)
    return keras.Model(inputs, outputs, name="zhead")
