"""An oracle of line fluxes: the likelihood of a prism spectrum, with the training population as prior.

The likelihood of all line fluxes together is normal, the one that joint line errors start from; the redshift
is known. The prior is what the population that a model was trained on has near that redshift: a normal
distribution of the logarithms of all fluxes, at any brightness. The most probable fluxes are what a network
can know of a line: one that answers less to a change of it recites more than the data force it to.
"""

from collections.abc import Mapping

import keras
import numpy as np

from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation.galaxies import draw_galaxies
from data_pipeline.simulation.survey import draw_targets
from kspecsr.configuration import FeedConfig, ModelConfig
from kspecsr.feeds.simulated import VALIDATION_SEED_BIT, simulation_config
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.layers.prism_channels import Multiply
from kspecsr.measures.held_out import HeldOut, Reconstruction
from kspecsr.methods.direct_fit import fit_prism_lines
from kspecsr.models.sr1 import normalised, number_input, prism_inputs
from kspecsr.models.sr2 import direct_fit, information

_NEAREST = 1000  # galaxies in redshift that the prior is of
_FAINTEST = 1e-4  # of the brightest line: what is less counts as that
_ANY_BRIGHTNESS = 100.0  # prior variance of the logarithm of all fluxes together
_RIDGE = 1e-3  # variance that keeps ratios that the population fixes from being exact
_STEPS, _LONGEST = 60, 0.7  # of Newton's method, and of a logarithm in one of them
_START = 0.3  # isolated errors


class PopulationPosterior:
    """Most probable line fluxes given a spectrum, its redshift, and the population.

    Args:
        feed: of the training.
        grid: of the targets.
        n: number of galaxies that stand for the population.
        seed: of these.
    """

    def __init__(self, feed: FeedConfig, grid: UnifiedGrid, n: int = 4000, seed: int = 0):
        population, self._lines = simulation_config(feed).population, load_lines(feed.lines)
        targets = draw_targets(population, seed | VALIDATION_SEED_BIT, np.arange(n))
        galaxies = draw_galaxies(population, seed | VALIDATION_SEED_BIT, targets, self._lines)
        self._tie = free_fluxes(len(self._lines))[0].astype(float)
        free = galaxies.line_flux @ self._tie / (self._tie**2).sum(axis=0)
        brightest = free.max(axis=1)
        use = np.isfinite(galaxies.redshift) & (brightest > 0)
        free, brightest = free[use], brightest[use, None]
        self._place = np.log1p(galaxies.redshift[use])
        self._log_ratio = np.log(np.maximum(free / brightest, _FAINTEST))
        self._likelihood = _likelihood(ModelConfig(grid=grid, lines=feed.lines))

    def reconstruct(self, held_out: HeldOut) -> Reconstruction:
        """Fluxes of galaxies at their true redshifts."""
        spectra = (held_out.prism_flux, held_out.prism_error, held_out.prism_mask)
        given = dict(zip(("prism_flux", "prism_error", "prism_mask"), spectra, strict=True))
        redshift = np.nan_to_num(held_out.redshift, nan=1.0)
        found = self._likelihood.predict_on_batch({**given, "redshift": redshift.astype(np.float32)})
        found = {name: np.asarray(values, float) for name, values in found.items()}
        fit = fit_prism_lines(*spectra, held_out.redshift, lines=self._lines)
        flux = self._most_probable(found, redshift) @ self._tie.T
        flux = np.where(fit.line_in_range, flux, np.nan)
        spectrum = fit.on_grid(held_out.grid)[0]
        return Reconstruction(flux=spectrum, line_flux=flux, line_in_range=fit.line_in_range)

    def _prior(self, redshift: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean (F,) and precision (F, F) of the logarithms of fluxes, but for their common level."""
        near = np.argsort(np.abs(self._place - np.log1p(redshift)))[:_NEAREST]
        logs = self._log_ratio[near]
        covariance = np.cov(logs.T) + _ANY_BRIGHTNESS + _RIDGE * np.eye(logs.shape[1])
        return logs.mean(axis=0), np.linalg.inv(covariance)

    def _most_probable(self, found: Mapping[str, np.ndarray], redshift: np.ndarray) -> np.ndarray:
        """(B, F) free fluxes by damped Newton steps in their logarithms."""
        mean, inverse = (np.stack(arrays) for arrays in zip(*map(self._prior, redshift), strict=True))
        unit, start, seen = found["unit"], found["start"], found["in_range"] > 0
        log_unit = np.log(np.where(seen, unit, 1.0))
        level = np.where(seen, np.log(np.maximum(start, _START)) + log_unit - mean, -np.inf).max(axis=1)
        y = mean + np.where(np.isfinite(level), level, 0.0)[:, None]
        y = np.where(seen, np.log(np.maximum(start, _START)) + log_unit, y)
        for _ in range(_STEPS):
            x = np.where(seen, np.exp(np.clip(y - log_unit, -30.0, 30.0)), 0.0)
            slope = found["score"] - np.einsum("bij,bj->bi", found["precision"], x - start)
            gradient = x * slope - np.einsum("bij,bj->bi", inverse, y - mean)
            curvature = x[:, :, None] * found["precision"] * x[:, None, :] + inverse
            # a flux that is too large has the curvature of its exponential besides
            curvature += np.maximum(-x * slope, 0.0)[:, :, None] * np.eye(x.shape[1])
            step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            y = y + np.clip(step, -_LONGEST, _LONGEST)
        return np.exp(y)


def _likelihood(model: ModelConfig) -> keras.Model:
    """From prism spectra and redshifts to what `LineInformation` says, ``unit`` in units of the records."""
    inputs = {**prism_inputs(), "redshift": number_input("redshift")}
    prism, multiply = normalised(inputs), Multiply(name="multiply", dtype="float32")
    places, fit = direct_fit(
        model.sr2, plain_grid(model.grid), prism, inputs["redshift"], multiply, model.lines
    )
    exact = keras.ops.zeros_like(inputs["redshift"])
    found = information(model.sr2, prism, places, fit, inputs["redshift"], exact)
    return keras.Model(inputs, {**found, "unit": multiply(found["unit"], prism["scale"])})
