"""Layers of the networks: `keras.ops` only, so that they run on every Keras backend; all registered."""

from kspecsr.layers.block_operator import BlockOperator, PrismDegradation, Upsampling
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.line_positions import LineMask, LinePositions, LineWindows, MultiScalePooling
from kspecsr.layers.line_rendering import LineRendering
from kspecsr.layers.line_tokens import LineDecoder, LineIdentity, LineScalars
from kspecsr.layers.log_correlation import LogCorrelation, RedshiftEstimate
from kspecsr.layers.prism_channels import PrismChannels, PrismNormalisation, SubPixelPhase, ToGridChannels
from kspecsr.layers.redshift_channels import LogProbability, RedshiftChannels
from kspecsr.layers.refinement import EquivalentWidth, PrismConsistency, Refinement, SpectrumOutput
from kspecsr.layers.residual_block import attention_block, residual_block

__all__ = [
    "BlockOperator",
    "DirectLineFit",
    "EquivalentWidth",
    "LineDecoder",
    "LineIdentity",
    "LineMask",
    "LinePositions",
    "LineRendering",
    "LineScalars",
    "LineWindows",
    "LogCorrelation",
    "LogProbability",
    "MultiScalePooling",
    "PrismChannels",
    "PrismConsistency",
    "PrismDegradation",
    "PrismNormalisation",
    "RedshiftChannels",
    "RedshiftEstimate",
    "Refinement",
    "SpectrumOutput",
    "SubPixelPhase",
    "ToGridChannels",
    "Upsampling",
    "attention_block",
    "plain_grid",
    "residual_block",
]
