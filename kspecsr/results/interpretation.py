"""From the networks' outputs to what is reported: masks, flags, redshift, lines; for batches of spectra.

Written in functions that NumPy and `keras.ops` share. Results in Python are made with NumPy, in float64 on
every backend; the exported model has the same rules traced into its graph with ``xp=keras.ops``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results import prism_input
from kspecsr.results.broad import BroadLines
from kspecsr.results.data import ModelIdentity
from kspecsr.results.flags import NO_COVERAGE, STATUS_BITS, find_flags, flags_of
from kspecsr.results.lines import LineMeasurements
from kspecsr.results.prism_input import PrismInput, output_mask, prism_wavelength
from kspecsr.results.redshift import RedshiftSummary, summarise_redshift
from kspecsr.results.result import Result

_SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error")
_BLANKED = ("flux", "flux_error", "wavelength", "fwhm", "equivalent_width", "prior_weight")
_PARTS = ("narrow_flux", "narrow_flux_error", "broad_flux", "broad_flux_error")  # of models with broad lines
_BROAD = ("broad_probability", "broad_fwhm", "broad_fwhm_error")  # one for all lines of a spectrum
_OPEN_WORLD = ("redshift_none", "class_probability")  # of models that know of more than galaxies
Arrays = dict[str, Any]


class Interpreter:
    """What is reported of the networks' outputs.

    Arrays are float64 of the library that ``xp`` belongs to, masks bool.

    Args:
        identity: name, hash and grid of the model.
        bins: (Z,) ln(1 + z) of P(z).
        xp: `numpy` or `keras.ops`.
        degrade: flux density on the output grid (B, N) to the prism's pixels (B, P); None for NumPy's.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        bins: np.ndarray,
        xp: Any = np,
        degrade: Callable | None = None,
    ):
        grid = identity.grid
        self.identity = identity
        self.bins = np.asarray(bins, dtype=np.float64)
        self._xp = xp
        self._degrade = degrade or (lambda flux: prism_input.degraded_to_prism(flux, grid))
        wavelength, prism = grid.wavelength, prism_wavelength()
        self._between = 0.5 * (wavelength[1:] + wavelength[:-1])  # where the nearest output pixel changes
        (on_range,) = np.nonzero((prism >= grid.start) & (prism <= grid.stop))
        self._on_range = slice(on_range[0], on_range[-1] + 1)
        self._interior = prism_input.seen_on_grid(grid)

    def redshift(self, prism: tuple, outputs: Mapping[str, Any], given: Any) -> Arrays:
        """Redshift with error, confidence and P(z), and the flags as far as they go.

        Args:
            prism: flux, error (B, P) and mask (B, P), True = bad.
            outputs: ``redshift`` (B,) and ``redshift_probability`` (B, Z) of the networks.
            given: (B,) redshifts that the caller gave; NaN for none.

        Returns:
            ``redshift``, ``redshift_error``, ``redshift_confidence``, ``status`` (B,) and
            ``redshift_probability`` (B, Z).
        """
        return self._redshift_and_flags(prism, outputs, given)[0]

    def everything(
        self, prism: tuple, outputs: Mapping[str, Any], given: Any, keep_flagged: Any = False
    ) -> Arrays:
        """All that is reported.

        Args:
            prism: as above.
            outputs: of the composed model.
            given: as above.
            keep_flagged: bool or (B,) bool, whether flagged spectra keep their lines, where they have a
                redshift and finite numbers.

        Returns:
            As above, and spectra and their ``mask`` (B, N), ``line_*`` (B, K), ``chi_square`` (B,),
            ``prism_model`` (B, P); ``broad_*`` (B,) of models with broad lines.
        """
        xp = self._xp
        lost = output_mask(prism[2], self.identity.grid, xp)
        lines = self._lines(outputs, lost)
        finite = xp.isfinite(outputs["flux"]) & xp.isfinite(outputs["flux_error"])
        in_range = xp.sum(xp.where(lines["line_in_range"], 1, 0), axis=1)
        fit = {name: outputs[name] for name in ("fit_probability",) if name in outputs}
        broad = {name: outputs[name] for name in _BROAD if name in outputs}
        finite = xp.all(finite | lost, axis=1)
        redshift, flagged = self._redshift_and_flags(prism, outputs, given, in_range, finite, *fit.values())
        flagged = flagged & ~(finite & xp.isfinite(redshift["redshift"]) & keep_flagged)
        rows = flagged[:, None]
        # without a redshift to trust, the first stage alone: it knows none
        alone = xp.where(self._interior, self._degrade(outputs["sr1_flux"]), np.nan)
        shown = {**outputs, "flux": outputs["sr1_flux"], "flux_error": outputs["sr1_error"]}
        spectra = {name: xp.where(rows, shown[name], outputs[name]) for name in _SPECTRA}
        spectra["continuum"] = xp.where(rows, np.nan, outputs["continuum"])
        return {
            **{name: xp.where(lost, np.nan, values) for name, values in spectra.items()},
            "mask": lost,
            **_blanked(lines, rows, xp),
            **redshift,
            **fit,
            **{name: xp.where(flagged, np.nan, values) for name, values in broad.items()},
            "prism_model": xp.where(rows, alone, outputs["prism_model"]),
            "chi_square": xp.where(
                flagged, prism_input.prism_chi_square(*prism, alone, xp), outputs["chi_square"]
            ),
        }

    def _redshift_and_flags(self, prism, outputs, given, lines_in_range=None, finite=None, fit=None):
        """Redshift and status as reported, and whether spectra are flagged (B,)."""
        xp, known = self._xp, self._xp.isfinite(given)
        redshift = xp.where(known, given, outputs["redshift"])
        error, confidence, probability = summarise_redshift(
            outputs["redshift_probability"], self.bins, redshift, known, xp
        )
        open_world = {name: outputs[name] for name in _OPEN_WORLD if name in outputs}
        if open_world:
            # a confident place in P(z) is none where there is probably no redshift at all
            confidence = xp.where(known, confidence, confidence * (1.0 - open_world["redshift_none"]))
        on_range = tuple(values[:, self._on_range] for values in prism)
        flags = find_flags(on_range, confidence, known, lines_in_range, finite, fit, xp)
        nothing = flags[NO_COVERAGE] & ~known
        status = sum(xp.where(rows, STATUS_BITS[name], 0) for name, rows in flags.items())
        reported = {
            "redshift": xp.where(nothing, np.nan, redshift),
            "redshift_error": xp.where(nothing, np.nan, error),
            "redshift_confidence": xp.where(nothing, 0.0, confidence),
            "redshift_probability": xp.where(nothing[:, None], 0.0, probability),
            "status": status,
            **open_world,
        }
        return reported, status > 0

    def _lines(self, outputs: Mapping[str, Any], lost: Any) -> Arrays:
        """Lines, blank where their centre does not lie on data."""
        xp = self._xp
        lines = {name: outputs[name] for name in outputs if name.startswith("line_")}
        centre, flux, error = lines["line_wavelength"], lines["line_flux"], lines["line_flux_error"]
        column = xp.searchsorted(self._between, xp.reshape(centre, (-1,)), side="right")
        seen = ~xp.take_along_axis(lost, xp.reshape(column, xp.shape(centre)), axis=1)
        measured = xp.isfinite(flux) & xp.isfinite(error) & (error > 0)
        in_range = (lines["line_in_range"] > 0) & seen & measured
        return {**_blanked(lines, ~in_range, xp), "line_in_range": in_range}


def _blanked(lines: Arrays, rows: Any, xp: Any) -> Arrays:
    """Lines without values in some rows: NaN, presence 0."""
    names = [f"line_{name}" for name in (*_BLANKED, *_PARTS)]
    blank = {name: xp.where(rows, np.nan, lines[name]) for name in names if name in lines}
    if "line_correlation" in lines:
        pairs = rows[:, :, None] | rows[:, None, :]
        blank["line_correlation"] = xp.where(pairs, np.nan, lines["line_correlation"])
    return {**lines, **blank, "line_presence": xp.where(rows, 0.0, lines["line_presence"])}


def results_of(
    reported: Mapping[str, np.ndarray],
    inputs: Sequence[PrismInput],
    redshifts: np.ndarray,
    identity: ModelIdentity,
    bins: np.ndarray,
    keep_flagged: bool = False,
) -> list[Result]:
    """Results of B spectra, from what `Interpreter.everything` reports, or a server beside their ``mask``.

    ``redshifts`` (B,) are those that the caller gave, NaN for none; ``keep_flagged`` as it was reported with.
    """
    arrays = {name: values for name, values in reported.items() if name != "model"}
    wavelength = identity.grid.wavelength
    results = []
    for row, (prism, redshift) in enumerate(zip(inputs, redshifts, strict=True)):
        # copies: a result that is kept must not keep its batch
        one = {name: np.array(values[row], np.float64) for name, values in arrays.items()}
        lines = {field.name: one.get(f"line_{field.name}") for field in fields(LineMeasurements)}
        if "broad_probability" in one:
            parts = {name: one[f"line_{name}"] for name in _PARTS}
            lines["broad"] = BroadLines(*(float(one[name]) for name in _BROAD), **parts)
        if np.any(prism.raised):  # no equivalent width on a continuum that is not the galaxy's
            raised = np.interp(lines["wavelength"], prism_wavelength(), prism.raised) > 0
            lines["equivalent_width"] = np.where(raised, np.nan, lines["equivalent_width"])
        result = Result(
            observed=prism.observed,
            model=identity,
            wavelength=wavelength,
            **{name: one[name] for name in (*_SPECTRA, "prism_model")},
            mask=one["mask"] > 0,
            redshift=_redshift_summary(one, redshift, bins),
            measurements=LineMeasurements(**{**lines, "in_range": lines["in_range"] > 0}),
            chi_square=float(one["chi_square"]),
            flags=(flags := flags_of(int(one["status"]))),
            lines_kept=keep_flagged and bool(flags),
            prism_wavelength=prism_wavelength(),
            prism_flux=prism.flux,
            prism_error=prism.error,
            prism_mask=prism.mask,
            fit_probability=float(one.get("fit_probability", np.nan)),
            class_probability=dict(zip(OBJECT_CLASSES, one.get("class_probability", ()), strict=False)),
        )
        results.append(result)
    return results


def _redshift_summary(reported: Arrays, redshift: float, bins: np.ndarray) -> RedshiftSummary:
    given = bool(np.isfinite(redshift))
    return RedshiftSummary(
        value=float(redshift if given else reported["redshift"]),
        error=float(reported["redshift_error"]),
        confidence=float(reported["redshift_confidence"]),
        given=given,
        bins=bins,
        probability=reported["redshift_probability"],
        none=float(reported.get("redshift_none", np.nan)),
    )
