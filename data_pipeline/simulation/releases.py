"""How each reduction releases a prism spectrum: its pixels, and how their noise hangs together.

Measured on public spectra: steps of the wavelength arrays over the detector's dispersion, and the
autocorrelation of flux over error after a running median of 6.6 detector pixels, from 1 to 5 um:

    release   spectra   pixels     step / detector pixel   lag 1, 2, 3      scatter / quoted error
    JADES     2         674, 706   0.600                    0.40 -0.09 -0.29  0.77
    GTO       6         674, 706   0.600                    0.32 -0.10 -0.21  0.86
    DJA v4    18        473        0.953                   -0.09 -0.17 -0.20  0.94
    STScI     1         429        0.992                    0.10 -0.23 -0.34  1.28

White noise on pixels of 0.6 that are interpolated linearly from the detector's gives 0.50 -0.16 -0.34 after
the same filter and 0.82; white noise on pixels of their own gives -0.15 -0.15 -0.15 and 0.93.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_pipeline.instrument import PRISM, Instrument, load_instrument
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL


@dataclass(frozen=True)
class Release:
    """One way to release prism spectra.

    Attributes:
        start: first wavelength [um]; 0 for the JADES pixels.
        pixels: number of them.
        step: detector pixels per pixel.
        interpolated: noise is white on detector pixels and interpolated linearly to the release's, as
            JADES does; otherwise it is that of pixels of their own.
        correlation: of the noise of neighbouring pixels, where it is not interpolated.
        quoted_error: median of quoted error over the noise of a pixel.
    """

    start: float
    pixels: int
    step: float
    interpolated: bool = False
    correlation: float = 0.0
    quoted_error: float = 1.0


RELEASES = {
    "jades": Release(0.0, 706, DETECTOR_PIXELS_PER_PIXEL, interpolated=True),
    "gto": Release(0.0, 674, DETECTOR_PIXELS_PER_PIXEL, interpolated=True),
    "dja": Release(0.540, 473, 0.953, correlation=0.06),
    "stsci": Release(0.5524, 429, 0.992, correlation=0.10, quoted_error=0.8),
}


@lru_cache(maxsize=8)
def release_instrument(name: str) -> Instrument:
    """The prism, R of the tabulated curve times 1, on the pixels of a release.

    Raises:
        ValueError: for an unknown release, listing the known ones.
    """
    if name not in RELEASES:
        raise ValueError(f"release {name!r} is unknown; expected one of {', '.join(RELEASES)}")
    release, prism = RELEASES[name], load_instrument(PRISM, scale=1.0)
    if release.start == 0.0:
        return (
            prism
            if release.pixels == prism.wavelength.size
            else prism.with_pixels(prism.wavelength[: release.pixels])
        )
    return prism.with_pixels(_walk(prism, release))


def _walk(prism: Instrument, release: Release) -> np.ndarray:
    """Wavelengths whose steps follow the detector's dispersion [um]."""
    dispersion = np.gradient(prism.wavelength) / DETECTOR_PIXELS_PER_PIXEL
    wavelength = [release.start]
    for _ in range(release.pixels - 1):
        step = release.step * np.interp(wavelength[-1], prism.wavelength, dispersion)
        middle = wavelength[-1] + 0.5 * step
        wavelength.append(wavelength[-1] + release.step * np.interp(middle, prism.wavelength, dispersion))
    return np.array(wavelength)
