"""The evaluation as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from data_pipeline.writers.atomic import replacing
from kspecsr.measures.estimate import Estimate

_TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class ShownFigure:
    """A picture and what to see in it.

    Attributes:
        path: PNG file.
        caption: text below.
    """

    path: Path
    caption: str

    @property
    def data(self) -> str:
        """The picture as base64 text."""
        return base64.b64encode(self.path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class ShownTable:
    """A table that unfolds.

    Attributes:
        title: on the line that unfolds it.
        columns: headings.
        rows: texts.
        open: unfolded from the start.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        text: paragraphs.
        figures: pictures in order.
        tables: below them.
    """

    title: str
    text: Sequence[str] = ()
    figures: Sequence[ShownFigure] = ()
    tables: Sequence[ShownTable] = ()

    @property
    def anchor(self) -> str:
        """Name for links."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


@dataclass(frozen=True)
class SummaryRow:
    """One figure of merit of all methods.

    Attributes:
        title: what it is.
        metric: name in `metrics.json`.
        digits: significant digits.
        published: what the literature has, as text; empty for nothing.
        percent: shown as a percentage.
    """

    title: str
    metric: str
    digits: int = 3
    published: str = ""
    percent: bool = False


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Attributes:
        title: of the page.
        lead: first paragraph.
        columns: heading to method, in order; the method ``published`` has the rows' published text.
        rows: of the summary.
        metrics: method to metric to estimate.
        models: methods that are the model's own.
        gate_name, gate_limits, gate_failures: what the gate said.
        sections: in order.
        command: that makes the page again.
        provenance: text.
        summary_note: above the summary.
        published_note: below it.
    """

    title: str
    lead: str
    columns: Mapping[str, str]
    rows: Sequence[SummaryRow]
    metrics: Mapping[str, Mapping[str, Estimate]]
    models: Sequence[str]
    gate_name: str
    gate_limits: int
    gate_failures: Sequence[str]
    sections: Sequence[Section]
    command: str
    provenance: str
    summary_note: str = ""
    published_note: str = ""

    def write(self, path: Path) -> Path:
        """Writes the page, complete or not at all."""
        # a template engine at the top of a module would be in every --help
        from jinja2 import Environment, StrictUndefined

        text = (resources.files(__package__) / _TEMPLATE).read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        page = environment.from_string(text).render(
            title=self.title,
            lead=self.lead,
            sections=self.sections,
            summary=self._summary(),
            summary_note=self.summary_note,
            published_note=self.published_note,
            gate={
                "name": self.gate_name,
                "limits": self.gate_limits,
                "failures": list(self.gate_failures),
            },
            command=self.command,
            provenance=self.provenance,
        )
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return path

    def _summary(self) -> dict:
        rows = []
        for row in self.rows:
            cells = []
            for method in self.columns.values():
                if method == "published":
                    cells.append({"value": row.published or "–", "notes": (), "model": False})
                    continue
                estimate = self.metrics.get(method, {}).get(row.metric)
                cells.append({**_cell(estimate, row), "model": method in self.models})
            rows.append({"title": row.title, "cells": cells})
        return {"columns": list(self.columns), "rows": rows}


def _cell(estimate: Estimate | None, row: SummaryRow) -> dict:
    if estimate is None or estimate.value != estimate.value:
        return {"value": "–", "notes": ()}
    notes = [f"n {estimate.n:,}"]
    if estimate.low == estimate.low:
        notes.insert(0, f"{number(estimate.low, row)} to {number(estimate.high, row)}")
    return {"value": number(estimate.value, row), "notes": notes}


def number(value: float, row: SummaryRow) -> str:
    """A value as the summary shows it."""
    if value != value:
        return "–"
    if row.percent:
        return f"{100 * value:.{row.digits}g} %"
    return f"{value:.{row.digits}g}"


def metric_table(title: str, metrics: Mapping[str, Mapping[str, Estimate]], prefix: str) -> ShownTable:
    """All metrics whose names start with a prefix, methods as columns.

    Args:
        title: of the table.
        metrics: method to metric to estimate.
        prefix: several ones separated by blanks.
    """
    prefixes = tuple(prefix.split())
    names: dict[str, None] = {}
    for values in metrics.values():
        names |= {name: None for name in values if name.startswith(prefixes)}
    methods = [method for method, values in metrics.items() if any(name in values for name in names)]
    rows = []
    for name in names:
        cells = [name]
        for method in methods:
            estimate = metrics[method].get(name)
            cells.append("–" if estimate is None or estimate.value != estimate.value else _full(estimate))
        rows.append(cells)
    return ShownTable(title, ["metric", *methods], rows)


def _full(estimate: Estimate) -> str:
    text = f"{estimate.value:.4g}"
    if estimate.low == estimate.low:
        text += f" [{estimate.low:.3g}, {estimate.high:.3g}]"
    return f"{text} n {estimate.n}"


# Published: the authors' own code and documentation (PEERS, section 0).
ROWS = (
    SummaryRow("Redshift: NMAD of dz/(1+z)", "redshift_nmad", 2),
    SummaryRow("Redshift off by more than 0.15", "redshift_outliers_0.15", 2, "10.8 %", percent=True),
    SummaryRow("Redshift off by more than 0.01", "redshift_outliers_0.01", 2, percent=True),
    SummaryRow("Z_CONF > 0.9", "redshift_confident", 3, percent=True),
    SummaryRow("of these off by more than 0.01", "redshift_confident_outliers", 2, percent=True),
    SummaryRow("Line flux recovered / true, S/N > 5", "recovery", 3, "0.72–0.87"),
    SummaryRow("its robust scatter [ln]", "recovery_scatter", 2),
    SummaryRow("Lines of S/N > 5 found at 3 σ", "completeness", 3, percent=True),
    SummaryRow("Blended lines: flux error / direct fit's", "blended_error over direct_fit", 2),
    SummaryRow(
        "False detections where there is no line", "false_detection", 2, "30 % (Hβ), 44 % ([O II])", True
    ),
    SummaryRow("Flux pull, robust scatter", "pull_scatter", 3),
    SummaryRow("Line cores: scale-free error / cubic's", "scale_free/core over cubic", 2, "> 1"),
    SummaryRow("Line cores: scale-free error / direct fit's", "scale_free/core over direct_fit", 2),
    SummaryRow("the same, both at z of SR2", "scale_free/core over direct_fit_found_z", 2),
    SummaryRow("Continuum: scale-free error / cubic's", "scale_free/continuum over cubic", 2),
    SummaryRow("Amplitude ratio, line cores", "amplitude_ratio", 3, "0.54"),
    SummaryRow("FWHM / true FWHM", "fwhm_ratio", 3),
    SummaryRow("Resolvable [O III] pairs kept", "pairs_kept/oiii", 3, percent=True),
    SummaryRow("Coverage of 68 %: line fluxes", "coverage_68/lines", 3, percent=True),
    SummaryRow("Coverage of 68 %: pixels in cores", "coverage_68/core", 3, "too low", percent=True),
    SummaryRow("Coverage of 68 %: pixels in continuum", "coverage_68/continuum", 3, percent=True),
    SummaryRow("Prism consistency: chi-square per pixel", "prism_chi_square", 3),
    SummaryRow("Prior response (1 reads the data)", "response", 2, "0.16 (Roman grism)"),
)
NOTE = (
    "Median or share with its bootstrap interval over galaxies (16-84 %) and n. Redshifts are inferred, but "
    "for the direct fit and 'z known'; oracles are the truth itself, drawn at a redshift that is no better "
    "known (no method with that redshift does better); line fluxes of methods that give none are fitted on "
    "their spectra at the known redshift. Scatter and all splits are in the tables below."
)
PUBLISHED_NOTE = (
    "Published: what the authors of the framework state of their own code, on their own held-out JADES "
    "galaxies and with their own definitions; these figures and ours are not of the same galaxies."
)
