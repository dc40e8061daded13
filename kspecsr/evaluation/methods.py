"""Methods that are judged, from the same arrays: networks, direct fit, classical baselines, oracles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicSpline

from data_pipeline.instrument import degrading_operator
from data_pipeline.instrument.prism_pixels import DETECTOR_PIXELS_PER_PIXEL
from data_pipeline.lines import list_of
from data_pipeline.records.schema import FLUX_UNIT_IN_RECORDS
from data_pipeline.simulation import Nuisances
from kspecsr.evaluation.sources import SHIPPED_SEED
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.methods.baseline import Baseline
from kspecsr.methods.direct_fit import fit_prism_lines
from kspecsr.methods.fitted_lines import fitted_lines
from kspecsr.methods.template_fit import scan_redshifts
from kspecsr.results.redshift import summarise_redshift

# In the order of tables and legends.
TITLES = {
    "cubic": "cubic interpolation",
    "wiener": "Wiener",
    "tikhonov": "Tikhonov",
    "richardson_lucy": "Richardson-Lucy",
    "direct_fit": "direct fit, z known",
    "sr1": "SR1",
    "sr2": "SR2",
    "sr2_known_z": "SR2, z known",
    "direct_fit_found_z": "direct fit, z of SR2",
    "truth_found_z": "oracle, z of SR2",
    "truth_bound_z": "oracle, z of bound",
}
TEMPLATES = "template_fit"
METHODS = tuple(TITLES)  # of every evaluation
TITLES[TEMPLATES] = "templates, then direct fit"  # takes seconds per galaxy: judged where it is asked for
POSTERIOR = "population_posterior"
# Without the oracles, which need a truth without noise.
MEASURED = tuple(name for name in METHODS if not name.startswith("truth_"))
JUDGED = tuple(TITLES)
TITLES[POSTERIOR] = "oracle, posterior of the population"  # of the prior response alone

# outputs that only some models have
_OPTIONAL = ("class_probability", "line_correlation", "broad_probability", "broad_fwhm", "broad_fwhm_error")
_OPTIONAL += ("line_broad_flux", "line_broad_flux_error")
_FARTHEST = 0.01  # of 1 + z: beyond, no line is drawn where one belongs, and nothing is moved
_SMALL = 1e-30


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        n: number of galaxies.
        seed: seed of simulated held-out galaxies.
        population: population of the simulated galaxies, a name of the simulator.
        split: split of records.
        methods: methods that are judged; ``cubic`` and ``direct_fit`` are always among them, as others are
            measured against them.
        prior_galaxies: number of galaxies of the prior-response test; 0 leaves it out.
        resamples: number of draws of every bootstrap.
        all_splits: make every figure also by S/N, redshift, wavelength and line; otherwise only where a gate
            has a limit on one.
    """

    n: int = 2000
    seed: int = SHIPPED_SEED
    population: str = "survey"
    split: str = "test"
    methods: tuple[str, ...] = METHODS
    prior_galaxies: int = 200
    resamples: int = 100
    all_splits: bool = False

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"n: expected two galaxies or more, got {self.n}")
        if self.prior_galaxies < 0 or self.resamples < 2:
            raise ValueError(
                "expected prior_galaxies >= 0 and resamples >= 2, got "
                f"{self.prior_galaxies} and {self.resamples}"
            )
        unknown = sorted(set(self.methods) - set(JUDGED))
        if unknown:
            raise ValueError(f"methods: unknown {', '.join(unknown)}; expected some of {', '.join(JUDGED)}")
        missing = [name for name in ("cubic", "direct_fit") if name not in self.methods]
        if missing:
            raise ValueError(f"methods: {' and '.join(missing)} missing: others are measured against them")


# ---- oracles


def truth_at(held_out: HeldOut, redshift: np.ndarray) -> Reconstruction:
    """The truth moved to redshifts that are about right; where they are not, its continuum alone.

    Args:
        held_out: galaxies.
        redshift: (B,).
    """
    true = held_out.redshift
    right = np.isfinite(true) & np.isfinite(redshift)
    right &= np.abs(redshift - true) <= _FARTHEST * (1.0 + np.where(right, true, 0.0))
    moved = np.log((1.0 + np.where(right, redshift, 0.0)) / (1.0 + np.where(right, true, 0.0)))
    pixels = np.arange(held_out.grid.size, dtype=float)
    lost = held_out.target_continuum.astype(float)
    flux = np.where(right[:, None], held_out.target_flux, lost).astype(float)
    for row in np.flatnonzero(right & (moved != 0)):
        place = np.clip(pixels - moved[row] * held_out.grid.sampling, 0.0, pixels[-1])
        flux[row] = CubicSpline(pixels, flux[row])(place)
    return Reconstruction(flux=np.where(held_out.target_mask, np.nan, flux), redshift=np.asarray(redshift))


def redshift_bound(held_out: HeldOut) -> np.ndarray:
    """(B,) Cramér-Rao bound of dz / (1 + z): one sigma, everything else about the galaxy known.

    From how the noise-free prism spectrum changes as it is shifted in log wavelength, with the prism's noise
    and its unknown zero point, a shift in pixels whose scatter is the simulator's. What else is unknown
    (continuum, line ratios, line-spread function) could only make it larger.

    Args:
        held_out: galaxies with noise-free targets.

    Returns:
        NaN where there is no redshift or nothing is seen.
    """
    operator = degrading_operator(held_out.grid, Nuisances().prism_resolution_scale)
    matrix = operator.matrix
    truth = np.where(held_out.target_mask, 0.0, held_out.target_flux).astype(float)
    by_redshift = (matrix @ (np.gradient(truth, axis=1) * held_out.grid.sampling).T).T
    by_zero_point = np.gradient((matrix @ truth.T).T, axis=1)
    # released pixels are interpolated: they hold as much as their detector pixels
    good = ~held_out.prism_mask & operator.interior
    weight = DETECTOR_PIXELS_PER_PIXEL * good / held_out.prism_error**2.0
    redshift, both, zero_point = (
        (weight * first * second).sum(axis=1)
        for first, second in (
            (by_redshift, by_redshift),
            (by_redshift, by_zero_point),
            (by_zero_point, by_zero_point),
        )
    )
    information = redshift - both**2 / (zero_point + 1.0 / Nuisances().zero_point_shift ** 2)
    seen = (information > _SMALL) & np.isfinite(held_out.redshift)
    return np.where(seen, 1.0 / np.sqrt(np.where(seen, information, 1.0)), np.nan)


def bounded_redshift(held_out: HeldOut) -> np.ndarray:
    """(B,) the true redshift, off by a normal number of the width of `redshift_bound`; always the same."""
    bound = np.where(np.isfinite(held_out.redshift), redshift_bound(held_out), np.nan)
    off = [np.random.default_rng(int(number)).normal() for number in held_out.galaxy]
    return np.expm1(np.log1p(held_out.redshift) + bound * np.array(off))


# ---- all methods


_INFERRING = {"sr1", "sr2", "direct_fit_found_z", "truth_found_z"}


class Networks(Protocol):
    """Interface of `kspecsr.SuperResolver` that the evaluation needs.

    Attributes:
        redshift_bins: (Z,) ln(1 + z) of P(z).
    """

    redshift_bins: np.ndarray

    def predict_arrays(
        self, flux: np.ndarray, error: np.ndarray, mask: np.ndarray, redshift: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Outputs for arrays on the prism's pixels, erg/s/cm2/A."""


def reconstructions(
    held_out: HeldOut,
    methods: Sequence[str],
    networks: Networks,
    baselines: Mapping[str, Baseline],
) -> dict[str, Reconstruction]:
    """Reconstructions of the galaxies by each method, in the order asked for.

    The networks' own outputs are judged, without the flags that blank the lines of doubtful spectra in a
    result: what a flag hides counts here.

    Args:
        held_out: galaxies.
        methods: names in `METHODS`.
        networks: the model under judgement.
        baselines: by name.
    """
    found: dict[str, Reconstruction] = {}
    inferred = predicted(held_out, networks, None) if _INFERRING & set(methods) else {}
    for name in methods:
        if name in ("sr1", "sr2"):
            found[name] = _first(inferred) if name == "sr1" else _second(inferred, networks.redshift_bins)
        elif name == "sr2_known_z":
            given = predicted(held_out, networks, held_out.redshift)
            # a redshift that was told is no estimate
            found[name] = replace(
                _second(given, networks.redshift_bins),
                redshift=None,
                redshift_probability=None,
                confidence=None,
            )
        elif name == "direct_fit":
            found[name] = _direct_fit(held_out, held_out.redshift)
        elif name == TEMPLATES:
            found[name] = _template_fit(held_out)
        elif name == "direct_fit_found_z":
            found[name] = _direct_fit(held_out, drawn_redshift(inferred))
        elif name == "truth_found_z":
            found[name] = truth_at(held_out, drawn_redshift(inferred))
        elif name == "truth_bound_z":
            found[name] = truth_at(held_out, bounded_redshift(held_out))
        else:
            flux, error = baselines[name].reconstruct(
                held_out.prism_flux, held_out.prism_error, held_out.prism_mask, held_out.grid
            )
            found[name] = Reconstruction(flux=flux, error=error)
        found[name] = fitted_lines(found[name], held_out)
    return found


def predicted(held_out: HeldOut, networks: Networks, redshift: np.ndarray | None) -> dict[str, np.ndarray]:
    """Outputs of networks for galaxies, in record units.

    Args:
        held_out: galaxies.
        networks: a model.
        redshift: (B,) that is told; None to infer it.
    """
    outputs = networks.predict_arrays(
        held_out.prism_flux * FLUX_UNIT_IN_RECORDS,
        held_out.prism_error * FLUX_UNIT_IN_RECORDS,
        held_out.prism_mask,
        redshift,
    )
    in_units = ("flux", "flux_error", "continuum", "continuum_error", "sr1_flux", "sr1_error")
    in_units += ("prism_model", "line_flux", "line_flux_error", "line_broad_flux", "line_broad_flux_error")
    return {
        name: np.asarray(value, np.float64) / FLUX_UNIT_IN_RECORDS if name in in_units else np.asarray(value)
        for name, value in outputs.items()
    }


def _first(outputs: Mapping[str, np.ndarray]) -> Reconstruction:
    return Reconstruction(flux=outputs["sr1_flux"], error=outputs["sr1_error"])


def _second(outputs: Mapping[str, np.ndarray], bins: np.ndarray) -> Reconstruction:
    probability = np.asarray(outputs["redshift_probability"], np.float64)
    redshift = np.asarray(outputs["redshift"], np.float64)
    confidence = summarise_redshift(probability, bins, redshift, np.zeros(len(redshift), bool))[1]
    # as a result states it
    confidence = confidence * (1.0 - np.asarray(outputs.get("redshift_none", 0.0), np.float64))
    return Reconstruction(
        flux=outputs["flux"],
        error=outputs["flux_error"],
        continuum=outputs["continuum"],
        line_flux=outputs["line_flux"],
        line_flux_error=outputs["line_flux_error"],
        line_presence=np.asarray(outputs["line_presence"], np.float64),
        line_in_range=outputs["line_in_range"] > 0.5,
        redshift=redshift,
        redshift_bins=bins,
        redshift_probability=probability,
        confidence=confidence,
        prism_model=outputs["prism_model"],
        **{name: np.asarray(outputs[name], np.float64) for name in _OPTIONAL if name in outputs},
    )


def _template_fit(held_out: HeldOut) -> Reconstruction:
    """What a careful astronomer does: templates of stars tell the redshift, and lines are fitted there."""
    arrays = (held_out.prism_flux, held_out.prism_error, held_out.prism_mask)
    redshift, bins, probability = scan_redshifts(*arrays)
    return replace(
        _direct_fit(held_out, redshift),
        redshift=redshift,
        redshift_bins=bins,
        redshift_probability=probability,
        confidence=summarise_redshift(probability, bins, redshift, np.zeros(len(redshift), bool))[1],
    )


def drawn_redshift(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B,) the redshift at which SR2 drew the lines; the inferred one where none is in range.

    Args:
        outputs: of `predicted`.
    """
    used = np.asarray(outputs["line_in_range"]) > 0.5
    ratio = np.asarray(outputs["line_wavelength"], np.float64) / list_of(used.shape[1]).wavelength
    inferred = np.asarray(outputs["redshift"], np.float64)
    middle = [np.median(row[some]) if some.any() else np.nan for row, some in zip(ratio, used, strict=True)]
    return np.where(used.any(axis=1), np.array(middle) - 1.0, inferred)


def _direct_fit(held_out: HeldOut, redshift: np.ndarray) -> Reconstruction:
    spectra = (held_out.prism_flux, held_out.prism_error, held_out.prism_mask)
    fit = fit_prism_lines(*spectra, redshift, lines=list_of(held_out.line_flux.shape[1]))
    flux, error, continuum = fit.on_grid(held_out.grid)
    sigma = np.sqrt(np.einsum("bkk->bk", fit.line_covariance))
    return Reconstruction(
        flux=flux,
        error=error,
        continuum=continuum,
        line_flux=fit.line_flux,
        line_flux_error=fit.line_flux_error,
        line_in_range=fit.line_in_range,
        line_correlation=fit.line_covariance / (sigma[:, :, None] * sigma[:, None, :]),
        prism_model=fit.model,
    )
