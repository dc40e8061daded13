"""Limits, and figures of every line, of redshifts, of classes and of what is no galaxy, as text."""

from collections.abc import Mapping
from itertools import product

from data_pipeline.simulation import TROUBLES, WITHOUT_REDSHIFT
from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.evaluation.methods import TEMPLATES, TITLES
from kspecsr.evaluation.report import NOTHING, text_table
from kspecsr.measures.broad_components import PROBABILITY
from kspecsr.measures.estimate import Estimate
from kspecsr.measures.gate import Limit
from kspecsr.measures.line_by_line import FIGURES, shown_parts
from kspecsr.measures.redshift import CONFIDENCE
from kspecsr.measures.splits import LINE_SNR, interval_labels, labels

_HEADINGS = ("lines of S/N > 5", "recovered / true", "interval", "scatter [ln]", "pull", "its scatter", "n")
SR2 = "sr2"
_SHARED = "if errors are right"
_METHODS = (SR2, "sr2_known_z", "direct_fit")


def limit_rows(
    limits: Mapping[str, Limit], metrics: Mapping[str, Mapping[str, Estimate]], failures: list[str]
) -> list[list[str]]:
    """Every figure with a limit, with its interval and n, beside the direct fit and the limit's oracle.

    Args:
        limits: by ``METHOD/METRIC``.
        metrics: method to metric to estimate.
        failures: limits that are broken, as `kspecsr.measures.gate.Gate.failures` lists them.
    """
    rows = [["figure", "value", "interval", "n", "direct fit", "oracle", "limit", ""]]
    for name, limit in limits.items():
        method, _, metric = name.partition("/")
        figures = [metrics.get(method, {}).get(metric), metrics.get("direct_fit", {}).get(metric)]
        for oracle in limit.oracles[:1]:
            figures.append(metrics.get(oracle.partition("/")[0], {}).get(oracle.partition("/")[2]))
        own, *others = (_cells(one) for one in figures)
        broken = any(text.startswith(f"{name}: ") for text in failures)
        cells = [name, *own, *(one[0] for one in others), *[NOTHING] * (2 - len(others))]
        rows.append([*cells, _limit(limit), "broken" if broken else ""])
    return rows


def limit_table(
    limits: Mapping[str, Limit], metrics: Mapping[str, Mapping[str, Estimate]], failures: list[str]
) -> str:
    """`limit_rows` as text; empty without limits."""
    return text_table(limit_rows(limits, metrics, failures)) if limits else ""


def _cells(one: Estimate | None) -> list[str]:
    """Value, interval and number of measurements."""
    if one is None or one.value != one.value:
        return [NOTHING] * 3
    interval = f"{one.low:.3g} to {one.high:.3g}" if one.low == one.low else NOTHING
    return [f"{one.value:.3g}", interval, f"{one.n}"]


def _limit(limit: Limit) -> str:
    return (
        limit.text
        + f" x {limit.times}" * bool(limit.times)
        + f" or {limit.beside} + {limit.by:g}" * bool(limit.beside)
    )


def stated_table(found: Mapping[str, Estimate]) -> str:
    """Stated probabilities against what is true, in bins: Z_CONF, and that of broad components, as text.

    Args:
        found: metrics of a method.
    """
    tables = []
    for title, stated, right, edges in (
        ("Z_CONF", "confidence_stated", "confidence_right", CONFIDENCE),
        ("P_BROAD", "broad_stated", "broad_true", PROBABILITY),
    ):
        rows = [[title, "stated", "true", "interval", "n"]]
        for label in interval_labels(edges):
            if stated + label in found:
                value, interval, n = _cells(found[right + label])
                rows.append([label, f"{found[stated + label].value:.3g}", value, interval, n])
        if len(rows) > 1:
            tables.append(text_table(rows))
    return "\n\n".join(tables)


_BROAD = {
    "broad_recovery": "flux over truth, S/N > 10",
    "broad_scatter": "its robust scatter [ln]",
    "broad_pull_width": "pull of the flux, robust scatter",
    "broad_fwhm_ratio": "FWHM over truth",
    "broad_fwhm_scatter": "its robust scatter [ln]",
    "broad_fwhm_pull_width": "pull of the FWHM, robust scatter",
    "broad_found": "of these P_BROAD > 0.5",
}


def broad_table(found: Mapping[str, Estimate]) -> str:
    """Broad components against the truth, as text; empty for a model without."""
    rows = [[title, *_cells(found[name])] for name, title in _BROAD.items() if name in found]
    return text_table([["broad components", "value", "interval", "n"], *rows]) if rows else ""


def class_table(found: Mapping[str, Estimate]) -> str:
    """What each true class is called, as text; empty for a model without classes."""
    rows = [["true class, called", *OBJECT_CLASSES, "n"]]
    for one in OBJECT_CLASSES:
        said = [found.get(f"class_said[{one}|{other}]") for other in OBJECT_CLASSES]
        if said[0] is not None:
            shares = (NOTHING if share is None else f"{share.value:.1%}" for share in said)
            rows.append([one, *shares, f"{said[0].n}"])
    return text_table(rows) if len(rows) > 1 else ""


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
