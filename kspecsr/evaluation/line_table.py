"""Figures of every line, of redshifts, and of what is no galaxy, as text."""

from collections.abc import Mapping
from itertools import product

from data_pipeline.simulation import TROUBLES, WITHOUT_REDSHIFT
from kspecsr.evaluation.methods import TEMPLATES, TITLES
from kspecsr.evaluation.report import NOTHING, text_table
from kspecsr.measures.estimate import Estimate
from kspecsr.measures.line_by_line import FIGURES, shown_parts
from kspecsr.measures.splits import LINE_SNR, labels

_HEADINGS = ("lines of S/N > 5", "recovered / true", "interval", "scatter [ln]", "pull", "its scatter", "n")
SR2 = "sr2"
_SHARED = "if errors are right"
_METHODS = (SR2, "sr2_known_z", "direct_fit")


def line_table(metrics: Mapping[str, Mapping[str, Estimate]], shared_noise: bool = False) -> str:
    """Recovered over true flux, pulls and numbers of every line and sum, one table per method.

    Args:
        metrics: method to metric to estimate, with the figures of `kspecsr.measures.line_by_line`.
        shared_noise: the truth is measured, and its noise is in the spectra too: say what scatter of pulls is
            right then.
    """
    tables = []
    for method in _METHODS:
        found = metrics.get(method, {})
        rows = [[*_HEADINGS, *([_SHARED] if shared_noise else [])]]
        for name in shown_parts():
            figures = [found.get(f"{figure}/{name}") for figure in FIGURES]
            ratio, scatter, pull, spread, shared = figures
            if ratio is None or pull is None or spread is None:
                continue
            interval = f"{ratio.low:.2f}-{ratio.high:.2f}" if ratio.galaxies > 1 else NOTHING
            row = [name, f"{ratio.value:.2f}", interval, f"{scatter.value:.2f}"]
            row += [f"{pull.value:+.1f}", f"{spread.value:.1f}", f"{ratio.n}"]
            rows.append(row + ([f"{shared.value:.1f}"] if shared_noise else []))
        if len(rows) > 1:
            tables.append(f"{TITLES[method]}\n{text_table(rows)}")
    return "\n\n".join(tables)


def redshift_table(metrics: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Redshifts of methods that infer them, by the S/N of the best line, as text.

    Args:
        metrics: method to metric to estimate.
    """
    rows = [["redshift of", "best line in the prism", "NMAD", "off by > 0.01", "off by > 0.15", "n"]]
    parts = ("", *(f"[{label}]" for label in labels("best line snr", LINE_SNR, open_start=True)))
    for method, part in product((SR2, TEMPLATES), parts):
        names = ("redshift_nmad", "redshift_outliers_0.01", "redshift_outliers_0.15")
        nmad, far, lost = (metrics.get(method, {}).get(name + part) for name in names)
        if nmad is not None and far is not None and lost is not None:
            numbers = [f"{nmad.value:.2g}", f"{far.value:.1%}", f"{lost.value:.1%}", f"{far.n}"]
            rows.append([TITLES[method], part.strip("[]") or "all", *numbers])
    return text_table(rows) if len(rows) > 1 else ""


def sure_table(found: Mapping[str, Estimate]) -> str:
    """How often a method is sure (Z_CONF > 0.9) of what has no redshift, and of galaxies in trouble, as text.

    Args:
        found: its metrics; the text is empty where they are of galaxies alone.
    """
    named = [("false_confidence", name) for name in ("", *WITHOUT_REDSHIFT)]
    named += [("redshift_confident", name) for name in ("", *TROUBLES)] + [("redshift_of_second", "")]
    title = {"false_confidence": "all without a redshift", "redshift_confident": "all with one"}
    title |= {"redshift_of_second": "at the second's redshift"}
    rows = [["what is seen", "Z_CONF > 0.9", "interval", "n", "of these off by > 0.01"]]
    for figure, name in named:
        label = f"[{name}]" if name else ""
        sure, wrong = found.get(figure + label), found.get(f"redshift_confident_outliers{label}")
        if sure is not None:
            share = f"{wrong.value:.1%}" if wrong is not None and figure == "redshift_confident" else NOTHING
            interval = f"{sure.low:.1%} to {sure.high:.1%}" if sure.galaxies > 1 else NOTHING
            rows.append([name or title[figure], f"{sure.value:.1%}", interval, f"{sure.n}", share])
    return text_table(rows) if "false_confidence" in found else ""
