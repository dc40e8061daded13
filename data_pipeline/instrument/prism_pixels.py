"""Released prism pixels: their step, the noise of a pixel and of its neighbours, the width of a line in them.

JADES and the GTO interpolate detector pixels linearly onto finer ones: the noise of neighbouring pixels is
correlated, its variance below the quoted one, and lines are a little broader. DJA and the STScI pipeline
release pixels as large as the detector's, whose noise is nearly their own. The networks take JADES's.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.tables import read_table

DETECTOR_PIXELS_PER_PIXEL = 0.6  # step of the JADES prism grid
LINE_FWHM = 3.0  # pixels of an unresolved line
# Error of a fitted, unresolved line over that of independent pixels with the quoted errors.
CORRELATED_NOISE = 1.2
# Correlation of neighbours about as large as detector pixels: what DJA's have (benchmarks/release_noise.py).
NEIGHBOURS = 0.06
# Factor on the quoted errors of such pixels where they are interpolated linearly: neighbours share noise.
SHARED_NOISE = float(np.sqrt(1.0 + NEIGHBOURS / 2.0))
# By how much prism redshifts of DJA v4 exceed its gratings' [km/s], medians of samples: 159 in 13 pairs, 68 %
# of which lie between 36 and 249 (`benchmarks/release_noise.py --prism-redshift`).
DJA_ZERO_POINT = (150.0, 210.0)
_INTERPOLATED = 0.8  # detector pixels: below this step, pixels hold interpolated detector pixels
_COARSE = 1.5  # and beyond it their noise is their own
_LINE_VARIANCE = (LINE_FWHM * DETECTOR_PIXELS_PER_PIXEL) ** 2 / (8.0 * np.log(2.0))  # detector pixels^2
_SHARPNESS = float((1.0 - 1.0 / (6.0 * _LINE_VARIANCE)) ** -0.5)


@dataclass(frozen=True)
class Sampling:
    """How the pixels of a release sample the detector.

    Attributes:
        step: of the pixels [detector pixels].
        covariance: of the noise of pixels 0, 1, 2 ... apart over the quoted variance, until it is zero.
        sharpness: resolving power over that of pixels that are interpolated linearly, as JADES's are.
    """

    step: float
    covariance: tuple[float, ...]
    sharpness: float = 1.0

    @property
    def variance(self) -> float:
        """Variance of a pixel over the quoted one, averaged over all phases."""
        return self.covariance[0]

    @property
    def low_frequency(self) -> float:
        """Noise power at scales of several pixels, which are those that a line-spread function passes."""
        return self.covariance[0] + 2.0 * sum(self.covariance[1:])

    @property
    def kernel(self) -> np.ndarray:
        """(2 k - 1,) covariance of a pixel with those before, itself and those behind."""
        return np.array([*self.covariance[:0:-1], *self.covariance])

    def quadratic_form(self, row: np.ndarray) -> np.ndarray:
        """(...,) variances of ``sum_p row[..., p] n_p`` of noise n of unit quoted error."""
        total = self.variance * np.einsum("...p,...p->...", row, row)
        for lag, covariance in enumerate(self.covariance[1:], start=1):
            total += 2.0 * covariance * np.einsum("...p,...p->...", row[..., lag:], row[..., :-lag])
        return total


def sampling_of_step(step: float) -> Sampling:
    """Sampling by pixels of ``step`` detector pixels.

    Finer ones hold white noise on detector pixels, interpolated linearly at a random phase: the covariance is
    the autocorrelation of the triangle, a cubic B-spline of half-width 2, at the lags of the pixels. The
    triangle also adds 1/6 to the variance of a line in square pixels, which is as much as there is to gain
    for pixels that are not interpolated.
    """
    if step < _INTERPOLATED:
        lag = step * np.arange(int(np.ceil(2.0 / step)))
        covariance = np.where(lag < 1.0, 2.0 / 3.0 - lag**2 + lag**3 / 2.0, (2.0 - lag) ** 3 / 6.0)
        return Sampling(step, tuple(covariance.tolist()))
    return Sampling(step, (1.0, NEIGHBOURS) if step < _COARSE else (1.0,), _SHARPNESS)


def sampling_of(wavelength: np.ndarray) -> Sampling:
    """Sampling of a prism spectrum with pixel centres (n,) [um], n >= 2, by the size of its pixels."""
    return _sampling_of(np.asarray(wavelength, dtype=np.float64).tobytes())


@lru_cache(maxsize=64)
def _sampling_of(wavelength: bytes) -> Sampling:
    wave = np.frombuffer(wavelength)
    step = float(np.median(np.diff(wave) / dispersion(0.5 * (wave[1:] + wave[:-1]))))
    # a step within one per cent of JADES's is JADES's: the table of its pixels has the dispersion to that
    return JADES_SAMPLING if abs(step / JADES_SAMPLING.step - 1.0) < 0.01 else sampling_of_step(step)


def dispersion(wavelength: np.ndarray) -> np.ndarray:
    """Width [um] of a detector pixel at ``wavelength`` (n,) [um]."""
    table = read_table("nirspec_prism_uniform.ecsv")
    return np.interp(wavelength, table["wavelength_um"], table["dispersion_um_per_pixel"])


# Releases on the JADES pixels, and how many of them they have.
ON_JADES_PIXELS = {"jades": 706, "gto-706": 706, "gto-674": 674}
# Others: first wavelength [um], where the pixels end [um], step [detector pixels]. DJA's are msaexp's: v1 has
# 435 pixels, v2 and v3 have 414, and the 473 of v4 equal those of files to 1e-8. The STScI pipeline's differ
# from slit to slit; these are 429 like those of one file, to 3 %.
_WALKED = {
    "dja-v1": (0.58, 5.33, 1.0 / 1.05),
    "dja-v2": (0.58, 5.33, 1.0),
    "dja-v3": (0.58, 5.33, 1.0),
    "dja-v4": (0.54, 5.51, 1.0 / 1.05),
    "stsci": (0.55237, 5.3635, 0.9925),
}
RELEASED = (*ON_JADES_PIXELS, *_WALKED)


@lru_cache(maxsize=16)
def released_pixels(release: str) -> np.ndarray:
    """(n,) pixel centres [um] of a release, one of `RELEASED`."""
    if release in ON_JADES_PIXELS:
        return read_table("jades_prism_pixels.ecsv")["wavelength_um"][: ON_JADES_PIXELS[release]]
    start, stop, step = _WALKED[release]
    wavelength = [start]
    while wavelength[-1] < stop:
        wavelength.append(wavelength[-1] + step * float(dispersion(wavelength[-1])))
    return np.array(wavelength)


JADES_SAMPLING = sampling_of_step(DETECTOR_PIXELS_PER_PIXEL)
LAG_COVARIANCE = np.array(JADES_SAMPLING.covariance)
# Variance of released pixels over the quoted one, averaged over all phases: 2/3.
PIXEL_NOISE_VARIANCE = JADES_SAMPLING.variance
# Noise power at scales of several pixels, which are those that a line-spread function passes: 1 / 0.6.
LOW_FREQUENCY_VARIANCE = JADES_SAMPLING.low_frequency
quadratic_form = JADES_SAMPLING.quadratic_form
