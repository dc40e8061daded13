"""Layers of the networks: `keras.ops` only, so that they run on every Keras backend; all registered."""

from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.line_tokens import LineDecoder, LineIdentity, LineScalars
from kspecsr.layers.lines import (
    EquivalentWidth,
    LineMask,
    LinePositions,
    LineRendering,
    LineWindows,
    MultiScalePooling,
)
from kspecsr.layers.operators import PrismConsistency, PrismDegradation, Upsampling
from kspecsr.layers.prism_channels import PrismChannels, PrismNormalisation, SubPixelPhase, ToGridChannels
from kspecsr.layers.redshift import LogCorrelation, LogProbability, RedshiftChannels, RedshiftEstimate
from kspecsr.layers.refinement import Refinement, SpectrumOutput
