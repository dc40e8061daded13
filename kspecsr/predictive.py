"""Predictions as TensorFlow Probability distributions: sample, quantile, log_prob.

`tfp.layers` does not work with Keras 3, so the networks give tensors and distributions are made here, after
the fact (DESIGN section 4). TensorFlow Probability takes seconds to import: only when one is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow_probability as tfp

# One-sigma width of each component of P(z), in bins: neighbours add up to a smooth density (to 0.2 %). The
# training loss has the same.
BIN_WIDTH = 0.6
_FINER = 16  # points of the cumulative distribution per bin, between which quantiles are interpolated


def _tensorflow_probability():
    """The package, without its remarks on the age of what it uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_probability as tfp

        # lazy: the first use of each imports
        tfp.distributions.Normal, tfp.bijectors.Expm1  # noqa: B018
        return tfp


class RedshiftDistribution:
    """P(z) as a mixture of narrow normals in ln(1 + z), one per bin.

    The training loss of the redshift network is minus the log density of the same mixture in ln(1 + z).

    Args:
        probability: (..., Z) probability of each bin, adding up to 1.
        bins: (Z,) ln(1 + z) of the bins, evenly spaced.

    Attributes:
        log_tfd: the distribution of ln(1 + z).
        tfd: the distribution of z itself.
    """

    def __init__(self, probability: np.ndarray, bins: np.ndarray):
        self.probability = np.asarray(probability, dtype=np.float64)
        self.bins = np.asarray(bins, dtype=np.float64)
        if self.probability.shape[-1] != self.bins.size:
            raise ValueError(
                f"expected one probability per redshift bin ({self.bins.size}), got an array of shape "
                f"{self.probability.shape}"
            )
        self.width = BIN_WIDTH * float(self.bins[1] - self.bins[0])
        tfp = _tensorflow_probability()
        tfd = tfp.distributions
        with np.errstate(divide="ignore"):
            logits = np.log(self.probability)
        self.log_tfd = tfd.MixtureSameFamily(
            tfd.Categorical(logits=logits), tfd.Normal(self.bins, np.full(self.bins.shape, self.width))
        )
        self.tfd = tfd.TransformedDistribution(self.log_tfd, tfp.bijectors.Expm1())

    def log_prob(self, redshift) -> np.ndarray:
        """Log density at a redshift, (...)."""
        return np.asarray(self.tfd.log_prob(np.asarray(redshift, dtype=np.float64)))

    def cdf(self, redshift) -> np.ndarray:
        """Probability of a smaller redshift, (...)."""
        return np.asarray(self.log_tfd.cdf(np.log1p(np.asarray(redshift, dtype=np.float64))))

    def sample(self, n: int, seed: int | None = None) -> np.ndarray:
        """(n, ...) redshifts."""
        return np.asarray(self.tfd.sample(n, seed=seed))

    def quantile(self, q) -> np.ndarray:
        """Redshift below which a share ``q`` of the probability lies, (..., quantiles).

        TensorFlow Probability has none for mixtures: the cumulative distribution is inverted on a grid.

        Args:
            q: (quantiles,) between 0 and 1.

        Raises:
            ValueError: for shares outside (0, 1).
        """
        q = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not np.all((q > 0) & (q < 1)):
            raise ValueError(f"quantiles: expected numbers between 0 and 1, got {q.tolist()}")
        flat = self.probability.reshape(-1, self.bins.size)
        rows = [self._quantiles(row, q) for row in flat]
        return np.stack(rows).reshape(*self.probability.shape[:-1], q.size)

    def _quantiles(self, probability: np.ndarray, q: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        step = self.bins[1] - self.bins[0]
        # the bins that can hold the quantiles: the rest need not be refined
        total = np.cumsum(probability)
        first = max(int(np.searchsorted(total, 0.5 * q.min())) - 8, 0)
        last = min(int(np.searchsorted(total, 1.0 - 0.5 * (1.0 - q.max()))) + 9, self.bins.size)
        edges = (self.bins[first] - 8 * self.width, self.bins[last - 1] + 8 * self.width)
        x = np.arange(edges[0], edges[1], step / _FINER)
        cdf = np.zeros(x.size)
        for k in np.flatnonzero(probability > 1e-12):
            cdf += probability[k] * ndtr((x - self.bins[k]) / self.width)
        return np.expm1(np.interp(q, cdf, x))


def redshift_distribution(probability: np.ndarray, bins: np.ndarray) -> RedshiftDistribution:
    """P(z) of one or many spectra; arguments as in `RedshiftDistribution`."""
    return RedshiftDistribution(probability, bins)


def flux_distribution(flux: np.ndarray, error: np.ndarray) -> tfp.distributions.Normal:
    """The predicted spectrum: independent normals per pixel.

    Args:
        flux: (..., N).
        error: (..., N) one sigma.
    """
    return _tensorflow_probability().distributions.Normal(
        np.asarray(flux, dtype=np.float64), np.asarray(error, dtype=np.float64)
    )


def predictive(outputs: Mapping[str, Any], bins: np.ndarray) -> dict[str, Any]:
    """Distributions of what a composed model gives.

    Args:
        outputs: of the composed model; see `kspecsr.models.compose`.
        bins: (Z,) ln(1 + z), of `kspecsr.models.redshift_bins`.

    Returns:
        ``flux``, ``sr1_flux`` and ``line_flux``: `tfd.Normal` in the outputs' units; ``redshift``: a
        `RedshiftDistribution`.
    """
    pairs = {"flux": "flux_error", "sr1_flux": "sr1_error", "line_flux": "line_flux_error"}
    distributions: dict[str, Any] = {
        name: flux_distribution(outputs[name], outputs[error])
        for name, error in pairs.items()
        if name in outputs
    }
    distributions["redshift"] = RedshiftDistribution(outputs["redshift_probability"], bins)
    return distributions
