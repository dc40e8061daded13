"""Every line of the list, and sums that the prism hardly parts: recovered over true flux, and pulls."""

from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline.lines import list_of, load_lines
from kspecsr.measures.estimate import Block, median, robust_scatter, statistic
from kspecsr.measures.held_out import HeldOut
from kspecsr.measures.line_recovery import log_ratio
from kspecsr.measures.lines import STRONG, judged_lines
from kspecsr.measures.splits import labels, line_parts, parts

Arrays = Mapping[str, np.ndarray]
SUMS = {
    "[OII]": ("[OII]_3727", "[OII]_3730"),
    "[OIII]+Hbeta": ("[OIII]_4960", "[OIII]_5008", "Hbeta"),
    "Halpha+[NII]": ("Halpha", "[NII]_6550", "[NII]_6585"),
    "[SII]": ("[SII]_6718", "[SII]_6733"),
}
SPLIT = ("[OII]", "Hbeta")  # lines beside breaks and in absorption
CONTRAST = (0.0, 1.0, 2.0, 4.0, np.inf)
JUMPS = (0.0, 1.0, 1.3, 1.7, 2.2, np.inf)
JUMP = ((0.345, 0.363), (0.413, 0.429))  # um, bands without strong lines on either side of the Balmer limit
_LEAST = 0.1  # S/N of a continuum below which there is none
FIGURES = ("line_recovery", "line_scatter", "line_pull", "line_pull_scatter", "line_pull_shared")


def measure(held_out: HeldOut) -> dict[str, np.ndarray]:
    """``balmer_jump`` (B,): f_nu of the true continuum on either side of the limit; NaN where unknown."""
    rest = held_out.grid.wavelength / (1.0 + held_out.redshift[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = [(rest > low) & (rest < high) for low, high in JUMP]
        blue, red = (np.where(i, held_out.target_continuum, 0.0).sum(1) / i.sum(1) for i in inside)
        jump = red / blue * (np.mean(JUMP[1]) / np.mean(JUMP[0])) ** 2
    return {"balmer_jump": np.where(held_out.continuum_known, jump, np.nan).astype(np.float32)}


def blocks(columns: Arrays, measured: Arrays) -> Iterator[Block]:
    """Figures ``/LINE`` and ``/SUM`` of lines with S/N > 5, in the prism and in a reference with errors.

    ``line_recovery``: median of recovered over true flux; ``line_scatter``: its robust scatter, natural log;
    ``line_pull`` and ``line_pull_scatter``: median and robust scatter of (flux - true) over both errors in
    quadrature; ``line_pull_shared``: see `shared_pull_scatter`. Errors of a method's sums are those of
    independent lines, those of a reference's add up as they do in blends. `SPLIT` also by contrast, S/N of
    the line over the continuum's per pixel, ``/[OII][contrast 1-2]``: it goes with the equivalent width;
    and by the Balmer jump of the true continuum.

    Args:
        columns: small columns of the held-out galaxies.
        measured: of `kspecsr.measures.lines.measured_lines`.
    """
    flux = _with_sums(measured["line_flux"])
    error = np.sqrt(_with_sums(np.square(measured["line_flux_error"], dtype=float)))
    judged = judged_lines(columns)
    true, reference, snr = (
        _with_sums(np.where(judged, columns[name], np.nan))
        for name in ("line_flux", "line_error", "line_snr")
    )
    use = (snr > STRONG) & (true > STRONG * reference)
    ratio = flux / np.where(true > 0, true, np.nan)
    both = np.hypot(error, reference)
    pull = (flux - true) / np.where(both > 0, both, np.nan)
    names = (*list_of(judged.shape[1]).names, *SUMS)
    contrast = snr / np.maximum(columns["continuum_snr"], _LEAST)[:, None]
    split = list(parts("contrast", contrast, CONTRAST))
    if "balmer_jump" in measured:
        split += parts("jump", measured["balmer_jump"][:, None], JUMPS)
    split = [
        (f"/{name}{label}", chosen & (np.array(names) == name)) for label, chosen in split for name in SPLIT
    ]
    yield (
        [
            median("line_recovery", ratio, use),
            statistic("line_scatter", _scatter_of_logs, ratio, use=use),
            median("line_pull", pull, use),
            statistic("line_pull_scatter", robust_scatter, pull, use=use),
            statistic("line_pull_shared", shared_pull_scatter, error, reference, use=use),
        ],
        [*line_parts(names, of=names), *split],
    )


def shared_pull_scatter(error: np.ndarray, reference: np.ndarray) -> float:
    """Scatter of pulls that right errors give where the method's data hold the reference's own noise.

    The reference uses that noise as well as can be, so that the variance of the difference is the difference
    of the variances. 1 for a reference without errors. Errors (n,) are in one unit.
    """
    own, other = np.square(error, dtype=float), np.square(reference, dtype=float)
    return float(np.sqrt(np.median(np.abs(own - other) / (own + other))))


def _with_sums(values: np.ndarray) -> np.ndarray:
    """(B, K + sums)."""
    index = load_lines().index
    sums = [values[:, [index(name) for name in names]].sum(axis=1) for names in SUMS.values()]
    return np.concatenate([values, np.stack(sums, axis=1)], axis=1).astype(float)


def _scatter_of_logs(ratio: np.ndarray) -> float:
    return robust_scatter(log_ratio(ratio))


def shown_parts() -> list[str]:
    """Names of all sums, lines of any list and parts of them, in the order of a table."""
    split = [
        f"{name}[{label}]"
        for name in SPLIT
        for label in (*labels("contrast", CONTRAST), *labels("jump", JUMPS))
    ]
    lines = load_lines("second")
    return [*SUMS, *split, *(lines.names[k] for k in np.argsort(lines.wavelength, kind="stable"))]
