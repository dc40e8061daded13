"""Layers of the networks: `keras.ops` only, so that they run on every Keras backend; all registered."""

from kspecsr.layers.attention_block import attention_block
from kspecsr.layers.block_operator import BlockOperator
from kspecsr.layers.degradation import PrismDegradation
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.line_identity import LineIdentity
from kspecsr.layers.line_mask import LineMask
from kspecsr.layers.line_positions import LinePositions
from kspecsr.layers.line_rendering import LineRendering
from kspecsr.layers.line_tokens import LineDecoder, LineScalars
from kspecsr.layers.line_windows import LineWindows, MultiScalePooling
from kspecsr.layers.log_correlation import LogCorrelation
from kspecsr.layers.prism_channels import PrismChannels, SubPixelPhase, ToGridChannels
from kspecsr.layers.prism_normalisation import PrismNormalisation
from kspecsr.layers.redshift_channels import LogProbability, RedshiftChannels
from kspecsr.layers.redshift_estimate import RedshiftEstimate
from kspecsr.layers.refinement import EquivalentWidth, PrismConsistency, Refinement
from kspecsr.layers.residual_block import residual_block
from kspecsr.layers.spectrum_output import SpectrumOutput
from kspecsr.layers.upsampling import Upsampling

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
