"""How many spectra per second the direct line fit takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from data_pipeline.pixel_grid import UNIFIED_GRID
from kspecsr.configuration import FeedConfig
from kspecsr.feeds import validation_examples
from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines

_SPECTRA, _SEED = 256, 1


def measured_speed(config: DirectFitConfig, seconds: float = 3.0) -> dict[str, float]:
    """Spectra per second of the fit alone, and of the fit and its sharp spectrum.

    Args:
        config: of the fit.
        seconds: that each is repeated, at least once.
    """
    batch = validation_examples(_SPECTRA, _SEED, FeedConfig(population="survey"), UNIFIED_GRID)
    arrays = [batch[name] for name in ("prism_flux", "prism_error", "prism_mask", "true_redshift")]

    def fit():
        return fit_prism_lines(*arrays, config)

    fit().on_grid(UNIFIED_GRID)  # tables are read and remembered
    return {
        "fit": _rate(fit, seconds),
        "fit and spectrum on the unified grid": _rate(lambda: fit().on_grid(UNIFIED_GRID), seconds),
    }


def _rate(work: Callable[[], object], seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < seconds:
        work()
        done += _SPECTRA
    return done / (time.perf_counter() - start)
