"""Losses, with `keras.ops` only."""

from kspecsr.losses.aligned_target import pixels_between, position_loss, shifted
from kspecsr.losses.gaussian_likelihood import gaussian_nll, masked_mean, spectrum_nll
from kspecsr.losses.line_losses import line_flux_nll, presence_loss, redshift_is
from kspecsr.losses.redshift_likelihood import redshift_nll
from kspecsr.losses.refinement_losses import (
    consistency_loss,
    continuum_loss,
    line_shape_loss,
    outside_losses,
    residual_l1,
)

__all__ = [
    "consistency_loss",
    "continuum_loss",
    "gaussian_nll",
    "line_flux_nll",
    "line_shape_loss",
    "masked_mean",
    "outside_losses",
    "pixels_between",
    "position_loss",
    "presence_loss",
    "redshift_is",
    "redshift_nll",
    "residual_l1",
    "shifted",
    "spectrum_nll",
]
