"""Losses, with `keras.ops` only."""

from kspecsr.losses.gaussian_likelihood import gaussian_nll, masked_mean, redshift_nll, spectrum_nll
from kspecsr.losses.refinement_losses import (
    consistency_loss,
    continuum_loss,
    line_flux_nll,
    line_shape_loss,
    outside_losses,
    pixels_between,
    position_loss,
    presence_loss,
    redshift_is,
    residual_l1,
    shifted,
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
