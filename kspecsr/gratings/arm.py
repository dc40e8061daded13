"""One grating: its pixels and noise, a continuum that is marginalised, its lines and their derivatives."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from data_pipeline.instrument import SPEED_OF_LIGHT, Instrument, instrument_for, load_instrument
from data_pipeline.instrument.line_spread import ANGSTROM_PER_UM
from data_pipeline.lines.design import continuum_hats
from data_pipeline.lines.profile import pixel_mean, pixel_mean_gradient, scattered
from data_pipeline.pairs.matching import GRATING_DISPERSERS
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError
from kspecsr.gratings.priors import FLUX_UNIT, LINES, LinePrior, free_lines
from kspecsr.results.arms import place_in

_KNOT_SPACING = 30  # pixels between knots of the continuum, some 4,000 km/s
_FEWEST_PIXELS = 5.0  # good pixels, weighted with its hat function, below which a knot is left out
_REACH = 4.5  # sigma of a line's profile on either side that is drawn
_COVERED = 0.5  # share of a line's profile that must lie on good pixels
_NOISE = (0.7, 5.0)  # limits of measured noise over quoted errors
_CORRELATION = (0.0, 0.45)  # of neighbouring pixels
_NEIGHBOUR = 0.8  # of the correlation that a line's profile lets through: exp(-1 / 4 sigma^2), sigma a pixel
_CLIP = 3.0  # sigma beyond which residuals do not count for the noise
_WILD = 5.0  # sigma of a pixel that is wild, if both its neighbours
_CALM = 0.3  # are below this share of it: those of a line are not


@dataclass(frozen=True, eq=False)
class Profiles:
    """Lines of unit free flux on an arm's pixels, on windows around each member.

    Attributes:
        column: (m,) free flux of each member.
        share: (m,) of the member in it.
        place: (m,) of the member in the arm, -1 to 1.
        index: (m, w) pixels.
        density: (m, w) flux density [1/Angstrom].
        by_velocity: (m, w) its change per km/s.
        by_width: (m, w) its change per unit of the logarithm of the velocity width.
        by_sharpness: (m, w) its change per unit of the logarithm of the resolving power.
    """

    column: np.ndarray
    share: np.ndarray
    place: np.ndarray
    index: np.ndarray
    density: np.ndarray
    by_velocity: np.ndarray
    by_width: np.ndarray
    by_sharpness: np.ndarray


class Arm:
    """One grating of a source, ready to be fitted; densities are in `FLUX_UNIT` per Angstrom.

    Args:
        spectrum: of a medium grating.
        detail: (n,) what the prism's model sees in the continuum that is too narrow for knots, such as
            stellar absorption [erg/s/cm2/A, on the grating's scale]; None for nothing.
        illumination: of the line-spread function, ``uniform`` or ``point``.

    Attributes:
        spectrum: as given.
        name: disperser.
        instrument: line-spread function on these pixels.
        noise: scatter of the residuals over the quoted errors.
        correlation: of the residuals of neighbouring pixels.
        good: (n,) bool.
        detail: (n,) as given, 0 for none.
        flux: (n,) without the detail [FLUX_UNIT/A]; 0 where bad.
        weight: (n,) inverse variance, correlated noise allowed for; 0 where bad.

    Raises:
        SpectrumError: for another disperser, naming the file.
    """

    def __init__(self, spectrum: ObservedSpectrum, detail: np.ndarray | None = None, illumination="uniform"):
        name = spectrum.meta.disperser
        if name not in GRATING_DISPERSERS:
            raise SpectrumError(
                f"{spectrum.meta.origin}: is a {name or 'spectrum without a disperser'}; expected a "
                f"medium grating, one of {', '.join(GRATING_DISPERSERS)}, beside the prism"
            )
        self.spectrum, self.name = spectrum, name
        scale = None if illumination == "uniform" else 1.0
        self.instrument: Instrument = load_instrument(instrument_for(name), illumination, scale).with_pixels(
            spectrum.wavelength
        )
        self.good = ~spectrum.mask
        self.detail = np.zeros(len(spectrum)) if detail is None else detail
        flux = np.where(self.good, spectrum.flux - self.detail, 0.0)
        self.flux = flux / FLUX_UNIT  # (n,)
        self._quoted = np.where(self.good, spectrum.error, 1.0) / FLUX_UNIT
        self._lines = np.zeros(flux.size)
        self.noise, self.correlation = 1.0, 0.0
        self._hats = continuum_hats(flux.size, max(2, round(flux.size / _KNOT_SPACING)))
        self._hats = self._hats[self._hats @ self.good > _FEWEST_PIXELS]
        self._weigh(0.0)
        self._measure_noise()

    def _weigh(self, model_error: float) -> None:
        """Weights from quoted errors, measured noise and an error of the lines' profiles."""
        variance = self._correlated * self.noise**2 * self._quoted**2 + (model_error * self._lines) ** 2
        self.weight = self.good / variance  # (n,)
        self._weighted = self._hats * self.weight  # (k, n)
        normal = self._weighted @ self._hats.T
        normal[np.diag_indices_from(normal)] *= 1.0 + 1e-9
        self._factor = cho_factor(normal) if len(normal) else None
        for name in ("projected", "_inverse", "span"):
            self.__dict__.pop(name, None)

    def _measure_noise(self) -> None:
        """Scatter and correlation of what the continuum leaves, lines clipped off."""
        for _ in range(2):
            residual = (self.flux - self.continuum_of(self.flux)) / self._quoted
            good = residual[self.good]
            if good.size < 10:
                return
            taken = (1.0 + 2.0 * self.correlation) * len(self._hats) / good.size  # by the continuum
            sigma = 1.4826 * np.median(np.abs(good - np.median(good))) / np.sqrt(max(1.0 - taken, 0.5))
            calm = self.good & (np.abs(residual) < _CLIP * sigma)
            pairs = calm[1:] & calm[:-1]
            both = np.sum(residual[1:] * residual[:-1], where=pairs)
            square = 0.5 * np.sum(residual[1:] ** 2 + residual[:-1] ** 2, where=pairs)
            self.noise = float(np.clip(sigma, *_NOISE))
            self.good = self.good & ~_wild(residual / self.noise * self.good)
            self.correlation = float(np.clip(both / max(square, 1e-30), *_CORRELATION))
            # by calm pixels alone, so that lines do not lift the continuum
            self.good, good = calm & self.good, self.good
            self._weigh(0.0)
            self.good = good
        self._weigh(0.0)

    def continuum_of(self, flux: np.ndarray) -> np.ndarray:
        """(n,) continuum that fits a flux density best."""
        if self._factor is None:
            return np.zeros(flux.size)
        return cho_solve(self._factor, self._weighted @ flux) @ self._hats

    @cached_property
    def projected(self) -> np.ndarray:
        """(n,) weighted data without what the continuum may say."""
        return self.weight * (self.flux - self.continuum_of(self.flux))

    def with_lines(self, lines: np.ndarray, model_error: float) -> int:
        """Allows for an error of the lines' profiles (n,), and leaves wild pixels out.

        Returns:
            Number of pixels that are left out for the first time.
        """
        self._lines = lines
        residual = self.flux - lines
        wild = _wild((residual - self.continuum_of(residual)) * np.sqrt(self.weight))
        self.good = self.good & ~wild
        self._weigh(model_error)
        return int(wild.sum())

    def stiffened(self, centre: np.ndarray, reach: float) -> Arm:
        """The same with a continuum that is straight around lines (m,) [um], by a share of their place."""
        stiff = copy(self)
        place = self._hats @ self.spectrum.wavelength / self._hats.sum(axis=1)  # of knots
        kept = (np.abs(place[:, None] / centre - 1.0) > reach).all(axis=1)
        kept[[0, -1]] = True
        # a line through fewer knots, as it is at all of them
        weights = [np.interp(place, place[kept], one) for one in np.eye(int(kept.sum()))]
        stiff._hats = np.array(weights) @ self._hats
        stiff._weigh(0.0)
        return stiff

    @property
    def _correlated(self) -> float:
        """Factor on the variance of what is fitted, of the correlation of neighbouring pixels."""
        return 1.0 + 2.0 * _NEIGHBOUR * self.correlation

    def chi_square(self, lines: np.ndarray) -> float:
        """Per good pixel, by quoted errors times the measured noise, of lines (n,) and the best continuum."""
        left = self.flux - lines
        left = left - self.continuum_of(left)
        return float(left @ (self.weight * left)) * self._correlated / max(int(self.good.sum()), 1)

    def score_covariance(self, columns: np.ndarray) -> np.ndarray:
        """(p, p) covariance of the right-hand sides of `normal_equations`, as the noise really is.

        Weights allow for correlated noise as lines see it; what moves or broadens lines sees less of it.
        """
        left = columns
        if self._factor is not None:
            left = columns - cho_solve(self._factor, self._weighted @ columns.T).T @ self._hats
        scaled = left * np.sqrt(self.weight / self._correlated)
        both = scaled[:, 1:] @ scaled[:, :-1].T
        return scaled @ scaled.T + self.correlation * (both + both.T)

    def normal_equations(
        self, columns: np.ndarray, model: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Of columns (p, n) for the data less a model (n,), the continuum marginalised.

        Returns:
            (p, p), (p,), and chi-square of what is left.
        """
        residual, near = self.flux - model, np.flatnonzero(columns.any(axis=0))  # lines are short
        columns = columns[:, near]
        weighted = columns * self.weight[near]
        normal, left = weighted @ columns.T, weighted @ residual[near]
        chi_square = float(residual @ (self.weight * residual))
        if self._factor is not None:
            cross, along = columns @ self._weighted[:, near].T, self._weighted @ residual
            normal -= cross @ cho_solve(self._factor, cross.T)
            solved = cho_solve(self._factor, along)
            left -= cross @ solved
            chi_square -= float(along @ solved)
        return normal, left, chi_square

    @cached_property
    def span(self) -> tuple[float, float]:
        """First and last good wavelength [um]."""
        seen = self.spectrum.wavelength[self.good]
        return (float(seen[0]), float(seen[-1])) if seen.size else (np.inf, -np.inf)

    def place(self, wavelength: np.ndarray) -> np.ndarray:
        """Where in the arm's range wavelengths lie, -1 to 1; 0 is its middle."""
        return place_in(wavelength, self.span)

    def covered(self, redshift: float, width: float) -> np.ndarray:
        """(F,) bool: free fluxes of which a line lies on good pixels."""
        free = free_lines()
        centre = LINES.wavelength[free.line] * (1.0 + redshift)
        inside = (centre > self.span[0]) & (centre < self.span[1])
        profiles = self.profiles(redshift, width, 0.0, inside)
        shares = np.zeros(free.columns, bool)
        good = np.sum(profiles.density * self.good[profiles.index], axis=1)
        seen = good > _COVERED * np.maximum(profiles.density.sum(axis=1), 1e-30)
        shares[profiles.column[seen]] = True
        return shares

    def profiles(
        self,
        redshift: float | np.ndarray,
        width: float,
        sharpness: float,
        members: np.ndarray,
    ) -> Profiles:
        """Profiles of lines at a redshift.

        Args:
            redshift: in this arm, its zero point included.
            width: velocity width, one sigma [km/s].
            sharpness: logarithm of the factor on the resolving power.
            members: bool or index of members of `free_lines`.
        """
        free, instrument = free_lines(), self.instrument
        members = np.flatnonzero(members) if members.dtype == bool else members
        lower, upper = instrument.bounds
        centre = LINES.wavelength[free.line[members]] * (1.0 + redshift)
        sigma, own, intrinsic = self.widths(centre, width, sharpness)
        first = np.searchsorted(upper, centre - _REACH * sigma)
        count = np.searchsorted(lower, centre + _REACH * sigma) - first
        window = first[:, None] + np.arange(max(int(count.max(initial=1)), 1))
        index = np.clip(window, 0, lower.size - 1)
        edges = lower[index], upper[index], centre[:, None], sigma[:, None]
        inside = (index == window) / ANGSTROM_PER_UM
        by_centre, by_sigma = pixel_mean_gradient(*edges)
        return Profiles(
            free.column[members],
            free.share[members],
            self.place(centre),
            index,
            pixel_mean(*edges) * inside,
            by_centre * inside * (centre / SPEED_OF_LIGHT)[:, None],
            by_sigma * inside * (intrinsic**2 / sigma)[:, None],
            by_sigma * inside * (-(own**2 + instrument.pixel_width(centre) ** 2 / 12.0) / sigma)[:, None],
        )

    def widths(self, centre: np.ndarray, width: float, sharpness: float) -> tuple[np.ndarray, ...]:
        """Width before the average over pixels, the instrument's and the intrinsic part of it [um]."""
        pixel = self.instrument.pixel_width(centre)
        own = self.instrument.sigma(centre) * np.exp(-sharpness)
        own = np.sqrt(np.maximum(own**2 - pixel**2 / 12.0, 1e-4 * pixel**2))
        intrinsic = width / SPEED_OF_LIGHT * centre
        return np.hypot(own, intrinsic), own, intrinsic

    def drawn(self, row: np.ndarray, index: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
        """(rows, n) sums of windows (m, w) by row (m,)."""
        return scattered(row[:, None], index, values, (rows, self.good.size))

    def drawn_near(self, row, index, values, rows: int, near: np.ndarray) -> np.ndarray:
        """(rows, p) the same on pixels ``near`` (p,), for arrays that are broadcast."""
        return scattered(row, np.searchsorted(near, index), values, (rows, near.size))

    def taken_by_continuum(self, columns: np.ndarray, near: np.ndarray) -> np.ndarray:
        """(G, f, f) of normal equations of columns (G, f, p) on pixels ``near``: the continuum's share."""
        if self._factor is None:
            return np.zeros((len(columns), columns.shape[1], columns.shape[1]))
        touching = self._weighted[:, near]
        used = touching.any(axis=1)
        cross = columns @ touching[used].T  # (G, f, k)
        return cross @ self._inverse[np.ix_(used, used)] @ cross.transpose(0, 2, 1)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return cho_solve(self._factor, np.eye(len(self._hats)))


def with_broad(
    members: np.ndarray, width: float, prior: LinePrior
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members (m,) of `free_lines`, those with a broad component a second time.

    Returns:
        Members; the share of each flux that is theirs; and widths [km/s].
    """
    if prior.broad_share is None:
        return members, np.ones(members.size), np.full(members.size, width)
    share = prior.broad_share[free_lines().column[members]]
    broad = share > 0
    return (
        np.concatenate([members, members[broad]]),
        np.concatenate([1.0 - share, share[broad]]),
        np.concatenate([np.full(members.size, width), np.full(broad.sum(), prior.broad_width)]),
    )


def _wild(residual: np.ndarray) -> np.ndarray:
    """(n,) bool: pixels whose residual [sigma] no line makes."""
    size = np.abs(residual)
    beside = np.maximum(np.append(0.0, size[:-1]), np.append(size[1:], 0.0))
    return (size > _WILD) & (beside < _CALM * size)
