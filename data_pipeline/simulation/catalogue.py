"""The catalogue of a simulated survey: measured line fluxes, redshift and its flag."""

import numpy as np

from data_pipeline.instrument import PRISM
from data_pipeline.lines.catalogue_fit import CATALOGUE_LINES, measure_lines, positive_estimate
from data_pipeline.simulation.arrays import SimulatedBatch
from data_pipeline.simulation.config import Population
from data_pipeline.simulation.draws import Draws

FLUX_UNIT = 1e-20  # erg/s/cm2, in which the JADES catalogue counts
_BREAK_SN = 3.0  # median continuum S/N per prism pixel from which a break gives the redshift


def catalogue_rows(batch: SimulatedBatch, seed: int, population: Population) -> dict[str, np.ndarray]:
    """Columns of the JADES catalogue for a batch, from its observed spectra.

    Flags as JADES gives them: A for lines above 5 sigma in the gratings, B in the prism, C for breaks or two
    lines of low S/N, D for one tentative line, E for none. The redshift is taken as found where the flag says
    so; E has none (-1). Seed and population give the redshift errors. Beside JADES' columns: ``kind``,
    ``has_redshift``, ``trouble`` and ``second_redshift``, the truth about what was in the slit.
    """
    flux, error = measured_fluxes(batch)
    prism_flux, prism_error = measured_fluxes(batch, prism=True)
    flags = redshift_flags(batch, flux / error, prism_flux / prism_error)
    scatter = Draws(seed, batch.index, population.stream).normal("catalogue redshift")
    # JADES scatters by 1.5e-4 in the gratings, more where only the prism has lines.
    size = np.select([flags == "A", flags == "B"], [1e-4, 1.5e-3], 4e-3)
    redshift = batch.redshift + (1.0 + batch.redshift) * size * scatter
    redshift = np.where(flags == "E", -1.0, redshift)
    rows: dict[str, np.ndarray] = {
        "Unique_ID": np.array(batch.unique_id),
        "TIER": np.array(batch.tier),
        "NIRSpec_ID": batch.nirspec_id,
        "RA_TARG": batch.ra,
        "Dec_TARG": batch.dec,
        "Field": np.array(["GS" if tier.startswith("goods-s") else "GN" for tier in batch.tier]),
        "z_Spec": redshift,
        "z_Spec_flag": flags,
        "z_R1000": np.where(flags == "A", redshift, -1.0),
        "tExp_PRISM": batch.exposure,
        "kind": np.array(batch.kind),
        "has_redshift": batch.has_redshift,
        "trouble": np.array(batch.trouble),
        "second_redshift": batch.second_redshift,
    }
    value, sigma = positive_estimate(flux, error)
    for column, name in enumerate(CATALOGUE_LINES):
        rows[f"{name}_flux"] = value[:, column] / FLUX_UNIT
        rows[f"{name}_flux_err"] = sigma[:, column] / FLUX_UNIT
    return rows


def measured_fluxes(batch: SimulatedBatch, prism: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and errors (b, m) [erg/s/cm2] in the order of `CATALOGUE_LINES`.

    NaN where not covered and for what has no redshift at which to look.
    """
    spectra = {arm: seen for arm, (_, seen) in batch.observed.items() if (arm == PRISM) == prism}
    pairs = [
        measure_lines(
            {arm: (s.flux[row], s.error[row], s.mask[row]) for arm, s in spectra.items()},
            float(batch.redshift[row]),
        )
        for row in range(len(batch))
    ]
    return np.array([flux for flux, _ in pairs]), np.array([error for _, error in pairs])


def redshift_flags(batch: SimulatedBatch, grating_sn: np.ndarray, prism_sn: np.ndarray) -> np.ndarray:
    """(b,) flags A to E from the S/N of the catalogue lines (b, m), NaN where not covered, and continuum."""
    with np.errstate(invalid="ignore"):
        strong = (grating_sn > 5.0).sum(axis=1)
        weak = (grating_sn > 3.0).sum(axis=1)
        strong_prism = (prism_sn > 5.0).sum(axis=1)
        window = (batch.prism_wavelength > 1.0) & (batch.prism_wavelength < 5.0)
        sn = (batch.prism_flux / batch.prism_error)[:, window]
    middle = np.array([np.median(row[np.isfinite(row)]) for row in sn])
    flags = np.select(
        [strong >= 1, strong_prism >= 2, (middle > _BREAK_SN) | (weak >= 2), weak == 1],
        ["A", "B", "C", "D"],
        "E",
    )
    # A chance peak in pure noise is not taken for a redshift, nor is a star.
    return np.where(batch.has_redshift, flags, "E")
