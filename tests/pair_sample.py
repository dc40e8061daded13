"""Spectra of one noise-free galaxy that the tests of stitching, fitting and augmentation share."""

import numpy as np
from scipy.special import ndtr

from data_pipeline.instrument import load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta

REDSHIFT = 2.2
FLUX = {"[OII]_3727": 2.0, "[OII]_3730": 2.698, "Hbeta": 1.0, "[OIII]_4960": 1.0, "[OIII]_5008": 2.984,
        "Halpha": 2.863, "[NII]_6550": 0.1, "[NII]_6585": 0.2942}  # fmt: skip
UNIT = 1e-18


def line(instrument, centre, velocity=80.0):
    """Unit-flux line averaged over the pixels of an instrument [1/A]."""
    pixel = np.interp(centre, instrument.wavelength, np.diff(instrument.bounds, axis=0)[0])
    sigma = np.sqrt(instrument.sigma(centre) ** 2 - pixel**2 / 12 + (centre * velocity / 299792.458) ** 2)
    low, high = instrument.bounds
    return (ndtr((high - centre) / sigma) - ndtr((low - centre) / sigma)) / (high - low) * 1e-4


def continuum(wavelength):
    return 4e-20 * (wavelength / 2.0) ** -1.2


def observe(name, scale=1.0, noise=0.0, rng=None, pixels=None, velocity=80.0, redshift=REDSHIFT, lines=FLUX):
    instrument = load_instrument(name) if pixels is None else load_instrument(name).with_pixels(pixels)
    flux = continuum(instrument.wavelength)
    known = load_lines()
    for key, value in lines.items():
        centre = known.wavelength[known.index(key)] * (1 + redshift)
        flux = flux + value * UNIT * line(instrument, centre, velocity)
    flux = flux * scale
    sigma = np.full(flux.shape, noise or 1e-20)
    if noise:
        flux = flux + rng.normal(size=flux.shape) * sigma
    meta = SpectrumMeta(disperser=instrument.disperser, path=f"{name}.fits", extraction="3pix")
    return ObservedSpectrum(instrument.wavelength, flux, sigma, np.zeros(flux.shape, bool), meta)


def integrated(wavelength, bounds, flux, centre, width=0.02):
    """Continuum-free flux of a line [erg/s/cm2]."""
    near = (np.abs(wavelength - centre) < width) & np.isfinite(flux)
    return np.sum((flux - continuum(wavelength))[near] * np.diff(bounds, axis=0)[0][near]) * 1e4
