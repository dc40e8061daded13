"""Attenuation curves."""

from __future__ import annotations

import numpy as np


def calzetti(wavelength: np.ndarray) -> np.ndarray:
    """Calzetti et al. (2000) k(lambda) = A(lambda) / E(B-V) with R_V = 4.05, for the stars.

    Args:
        wavelength: rest wavelength [um]; beyond 2.2 um the curve falls off as 1/lambda^1.6.
    """
    x = np.maximum(np.asarray(wavelength, dtype=np.float64), 0.09)
    blue = 2.659 * (-2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 / x) + 4.05
    k = np.where(x < 0.63, blue, red)
    at_end = 2.659 * (-1.857 + 1.040 / 2.2) + 4.05
    return np.where(x > 2.2, at_end * (2.2 / x) ** 1.6, k)


def cardelli(wavelength: np.ndarray) -> np.ndarray:
    """Cardelli, Clayton & Mathis (1989) k(lambda) with R_V = 3.1, for the gas.

    Args:
        wavelength: rest wavelength [um], 0.1-5.
    """
    x = 1.0 / np.asarray(wavelength, dtype=np.float64)
    y = x - 1.82
    infrared = 0.574 * x**1.61, -0.527 * x**1.61
    optical = (
        np.polynomial.polynomial.polyval(
            y, [1, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999]
        ),
        np.polynomial.polynomial.polyval(
            y, [0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002]
        ),
    )
    bump = np.maximum(x - 5.9, 0.0)
    ultraviolet = (
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - 0.04473 * bump**2 - 0.009779 * bump**3,
        -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + 0.2130 * bump**2 + 0.1207 * bump**3,
    )
    a, b = (np.where(x < 1.1, infrared[i], np.where(x < 3.3, optical[i], ultraviolet[i])) for i in range(2))
    return 3.1 * (a + b / 3.1)
