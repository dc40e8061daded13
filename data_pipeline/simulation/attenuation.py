"""Light lost on its way: attenuation curves of dust, and the intergalactic medium."""

import numpy as np
from numpy.polynomial.polynomial import polyval

# Lyman-alpha to Lyman-delta: wavelength [um] and the coefficients of Inoue et al. (2014), their table 2.
_LYMAN_LINES = (
    (0.121567, (1.690e-2, 2.354e-3, 1.026e-4)),
    (0.102572, (4.692e-3, 6.536e-4, 2.849e-5)),
    (0.097254, (2.239e-3, 3.119e-4, 1.360e-5)),
    (0.094974, (1.319e-3, 1.837e-4, 8.010e-6)),
)
_LYMAN_LIMIT = 0.09118


def calzetti(wavelength: np.ndarray) -> np.ndarray:
    """Calzetti et al. (2000) k(lambda) = A(lambda) / E(B-V) with R_V = 4.05, for the stars.

    ``wavelength`` is at rest [um]; beyond 2.2 um the curve falls off as 1/lambda^1.6.
    """
    x = np.maximum(np.asarray(wavelength, dtype=np.float64), 0.09)
    blue = 2.659 * (-2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 / x) + 4.05
    k = np.where(x < 0.63, blue, red)
    at_end = 2.659 * (-1.857 + 1.040 / 2.2) + 4.05
    return np.where(x > 2.2, at_end * (2.2 / x) ** 1.6, k)


def cardelli(wavelength: np.ndarray) -> np.ndarray:
    """Cardelli, Clayton & Mathis (1989) k(lambda) with R_V = 3.1, for the gas; rest wavelength 0.1-5 um."""
    x = 1.0 / np.asarray(wavelength, dtype=np.float64)
    y = x - 1.82
    infrared = 0.574 * x**1.61, -0.527 * x**1.61
    optical = (
        polyval(y, [1, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999]),
        polyval(y, [0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002]),
    )
    bump = np.maximum(x - 5.9, 0.0)
    ultraviolet = (
        1.752 - 0.316 * x - 0.104 / ((x - 4.67) ** 2 + 0.341) - 0.04473 * bump**2 - 0.009779 * bump**3,
        -3.090 + 1.825 * x + 1.206 / ((x - 4.62) ** 2 + 0.263) + 0.2130 * bump**2 + 0.1207 * bump**3,
    )
    a, b = (np.where(x < 1.1, infrared[i], np.where(x < 3.3, optical[i], ultraviolet[i])) for i in range(2))
    return 3.1 * (a + b / 3.1)


def intergalactic_transmission(bounds: np.ndarray, redshift: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(b, n) mean transmission per pixel, with each edge shared out within its pixel.

    Bounds (2, n) are in um; ``column`` (b,) is log10 of the neutral hydrogen at the galaxy [cm-2], for the
    damping wing.
    """
    lower, upper = bounds
    centre = 0.5 * (lower + upper)
    out = np.ones((redshift.size, centre.size))
    lost = []
    for line, (a, b, c) in _LYMAN_LINES:
        ratio = centre / line
        tau = np.select([ratio < 2.2, ratio < 5.7], [a * ratio**1.2, b * ratio**3.7], c * ratio**5.5)
        lost.append((line, 1.0 - np.exp(-tau)))
    for row in np.flatnonzero(0.1216 * (1 + redshift) * 1.4 > lower[0]):
        scale = 1.0 + redshift[row]
        last = np.searchsorted(lower, 0.121567 * scale * 1.4)
        x, low, high = centre[:last], lower[:last], upper[:last]
        through = np.ones(last)
        for line, share in lost:
            below = np.clip((line * scale - low) / (high - low), 0.0, 1.0)
            through *= 1.0 - below * share[:last]
        beyond = np.clip((_LYMAN_LIMIT * scale - low) / (high - low), 0.0, 1.0)
        # The Lyman continuum is opaque at every redshift at which the prism sees it.
        through *= 1.0 - beyond
        # Lorentz wing of Lyman-alpha: cross-section 4.26e-20 cm2 / (offset / Angstrom)^2.
        # One Angstrom of smoothing keeps the wing finite at the line itself, where nothing is left to absorb.
        offset = np.hypot((x / scale - 0.121567) * 1e4, 1.0)
        depth = 4.26e-20 * 10.0 ** column[row] / offset**2
        out[row, :last] = through * np.exp(-depth)
    return out


def attenuation(wavelength: np.ndarray, slope: float, bump: float) -> np.ndarray:
    """Noll et al. (2009): Calzetti's curve, tilted by a power law, with a 2175 Angstrom bump.

    Args:
        wavelength: rest wavelength [um].
        slope: exponent of (lambda / 0.55 um) that multiplies the curve; negative is steeper.
        bump: height of the bump in k; the Milky Way has about 3.

    Returns:
        k(lambda) = A(lambda) / E(B-V), of the shape of ``wavelength``.
    """
    x = np.asarray(wavelength, dtype=np.float64)
    width, centre = 0.035, 0.2175  # um
    drude = bump * (x * width) ** 2 / ((x**2 - centre**2) ** 2 + (x * width) ** 2)
    return (calzetti(x) + drude) * (np.maximum(x, 0.09) / 0.55) ** slope
