"""One figure of the check, simulated beside real, and the table of all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REASONS = {
    "redshift": "tolerance 8 % of z, 0.03 of a share and at most three quarters of it: sampling error of "
    "1,000 galaxies is 0.015",
    "detections": "tolerance 0.06 and at most three quarters of the share: sampling 0.015 (0.004 for a share "
    "of 0.02); the catalogue's own line fits are not public",
    "line fluxes": "tolerance 0.13 dex: a depth-driven distribution is modelled as one lognormal per tier",
    "line errors": "tolerance 0.1 dex: half of the 16-84 range is 0.25 dex, over tiers of unequal depth",
    "prism error": "tolerance 20 %: 24 galaxies give percentiles to 10-20 %",
    "continuum": "within the range over bands of 24 picked galaxies; M_UV 0.35 mag: the selection of the "
    "1,492 with a magnitude is not known",
    "noise": "tolerance 0.05: ACF estimator differs in detail; scatter ratio 0.06 (real files: 0.58-0.86)",
    "instrument": "tolerance 0.04 on R (21 real lines: error of a percentile 0.02), 0.07 on the flux ratio; "
    "the offset scatter lies below what was measured as an upper limit",
    "correlations": "rank correlations, tolerance 0.15: 513 real galaxies give 0.04, their selection more",
    "line ratios": "tolerance 0.05 dex plus two sampling errors of both percentiles; fewer than 8 simulated "
    "galaxies are not judged",
    "detected shares": "tolerance 0.08 plus two sampling errors: share of numerators above 3 sigma; fewer "
    "than 8 simulated galaxies are not judged",
}
_FEWEST = 8  # galaxies in a bin from which percentiles are judged


@dataclass(frozen=True)
class Comparison:
    """One figure.

    Attributes:
        group: key of `REASONS`.
        name: what is compared.
        real: measured on JADES: a number, or a range (low, high), whose low end is -inf for an upper limit.
        simulated: measured on the simulation; NaN where it could not be measured.
        tolerance: largest difference from the number, or distance outside the range, that passes.
        count: simulated galaxies that it rests on, where they may be few.
    """

    group: str
    name: str
    real: float | tuple[float, float]
    simulated: float
    tolerance: float
    count: int | None = None

    @property
    def judged(self) -> bool:
        """Whether it rests on enough simulated galaxies."""
        return self.count is None or self.count >= _FEWEST

    @property
    def passes(self) -> bool:
        """Whether the two agree within the tolerance."""
        low, high = self.real if isinstance(self.real, tuple) else (self.real, self.real)
        # with room for rounding: 0.75 - 0.7 is more than 0.05
        return bool(low - self.tolerance - 1e-12 <= self.simulated <= high + self.tolerance + 1e-12)

    @property
    def verdict(self) -> str:
        """``pass``, ``MISS`` or ``too few``."""
        return "too few" if not self.judged else "pass" if self.passes else "MISS"

    @property
    def real_text(self) -> str:
        """The real value as the table shows it: number, range or limit."""
        if not isinstance(self.real, tuple):
            return f"{self.real:.3f}"
        low, high = self.real
        return f"< {high:g}" if np.isneginf(low) else f"{low:g} to {high:g}"


def report(comparisons: list[Comparison], n: int) -> str:
    """The table as text, with the number of figures outside their tolerance."""
    text = [f"simulated beside JADES, {n} simulated observations"]
    group = ""
    for item in comparisons:
        if item.group != group:
            group = item.group
            text += ["", f"{group}: {REASONS[group]}"]
            text.append(f"  {'':44s} {'real':>9s} {'simulated':>9s} {'tolerance':>9s}")
        numbers = f"{item.real_text:>9s} {item.simulated:9.3f} {item.tolerance:9.3f}"
        text.append(f"  {item.name:44s} {numbers}  {item.verdict}")
    missed = [item for item in comparisons if item.judged and not item.passes]
    few = sum(not item.judged for item in comparisons)
    text += [
        "",
        f"{len(comparisons)} figures, {len(missed)} outside their tolerance, "
        f"{few} on too few galaxies to judge",
    ]
    text += [f"  missed: {item.group}, {item.name}" for item in missed]
    return "\n".join(text) + "\n"
