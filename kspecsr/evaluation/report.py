"""The evaluation as one self-contained HTML page, and how its figures of merit are written."""

import base64
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from data_pipeline.writers.atomic import replacing
from kspecsr.evaluation.methods import POSTERIOR, TITLES
from kspecsr.measures.estimate import Estimate

Metrics = Mapping[str, Mapping[str, Estimate]]  # method, metric
NOTHING = "–"

# -- figures of merit as text


@dataclass(frozen=True)
class Row:
    """A figure of merit in a table.

    Attributes:
        title: heading.
        metric: name in `metrics.json`.
        digits: significant digits.
        published: value in the literature, as text; empty for none.
        percent: shown as a percentage.
        method: method it is of, where a table shows several methods in one row.
    """

    title: str
    metric: str
    digits: int = 3
    published: str = ""
    percent: bool = False
    method: str = ""

    def number(self, value: float) -> str:
        """A value without its unit."""
        return NOTHING if value != value else f"{100 * value if self.percent else value:.{self.digits}g}"

    def parts(self, estimate: Estimate | None) -> list[str]:
        """Value, interval and number of measurements; a dash where nothing was measured."""
        if estimate is None or estimate.value != estimate.value:
            return [NOTHING]
        texts = [self.number(estimate.value) + " %" * self.percent]
        if estimate.low == estimate.low:
            texts.append(f"{self.number(estimate.low)} to {self.number(estimate.high)}")
        return [*texts, f"n {estimate.n:,}"]

    def text(self, estimate: Estimate | None) -> str:
        """The same in one cell, e.g. ``0.95 (0.94 to 0.96; n 1,203)``."""
        value, *notes = self.parts(estimate)
        return f"{value} ({'; '.join(notes)})" if notes else value


def read_estimate(content: Mapping | None) -> Estimate | None:
    """An estimate of a JSON file.

    Args:
        content: of `Estimate.as_json`; None for no estimate.
    """
    if content is None:
        return None
    value, low, high = (
        float("nan") if content[name] is None else content[name] for name in ("value", "low", "high")
    )
    return Estimate(value, low, high, content["n"], content.get("galaxies", 0))


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, headings among them, as lines of aligned text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def summary_table(metrics: Metrics) -> str:
    """The table on top of the page as text, without intervals; headings in several lines."""
    metrics = {method: found for method, found in metrics.items() if method != POSTERIOR}
    headings = [textwrap.wrap(TITLES.get(method, method), 11) for method in metrics]
    height = max(map(len, headings))
    lines = [["", *(words[i] if i < len(words) else "" for words in headings)] for i in range(height)]
    for row in ROWS:
        cells = (found.get(row.metric) for found in metrics.values())
        lines.append([row.title, *(row.parts(estimate)[0] for estimate in cells)])
    return text_table(lines)


# -- the page


@dataclass(frozen=True)
class ShownFigure:
    """A picture and its caption.

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
class Report:
    """Everything on the page.

    Attributes:
        title: of the page.
        lead: first paragraph.
        columns: methods of the summary, in order; ``published`` has the published text of `ROWS`.
        metrics: method to metric to estimate.
        gate_name: name of the gate.
        gate_limits: number of its limits.
        gate_failures: limits that were broken.
        sections: in order.
        command: command that makes the page again.
        provenance: text.
    """

    title: str
    lead: str
    columns: Sequence[str]
    metrics: Metrics
    gate_name: str
    gate_limits: int
    gate_failures: Sequence[str]
    sections: Sequence[Section]
    command: str
    provenance: str

    def write(self, path: Path) -> Path:
        """Writes the page, complete or not at all."""
        # a template engine at the top of a module would be in every --help
        from jinja2 import Environment, StrictUndefined

        text = (resources.files(__package__) / "report.html.jinja").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        titles = [TITLES.get(method, method) for method in self.columns]
        page = environment.from_string(text).render(
            report=self, titles=titles, rows=list(self._rows()), note=NOTE, published_note=PUBLISHED_NOTE
        )
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return path

    def _rows(self) -> Iterator[tuple[str, list[dict]]]:
        """Title and cells of each row of the summary."""
        for row in ROWS:
            cells = []
            for method in self.columns:
                parts = row.parts(self.metrics.get(method, {}).get(row.metric))
                if method == "published":
                    parts = [row.published or NOTHING]
                cells.append({"value": parts[0], "notes": parts[1:], "model": method.startswith("sr")})
            yield row.title, cells


def metric_table(title: str, metrics: Metrics, prefix: str) -> ShownTable:
    """All metrics whose names start with a prefix, methods as columns.

    Args:
        title: of the table.
        metrics: method to metric to estimate.
        prefix: several ones separated by blanks.
    """
    names = dict.fromkeys(
        name for found in metrics.values() for name in found if name.startswith(tuple(prefix.split()))
    )
    methods = [method for method, found in metrics.items() if not found.keys().isdisjoint(names)]
    rows = [
        [name, *(Row("", name, 4).text(metrics[method].get(name)) for method in methods)] for name in names
    ]
    return ShownTable(title, ["metric", *methods], rows)


# -- identical networks (paper Fig. 9), as benchmarks.identical_networks wrote them

IDENTICAL_ROWS = (
    Row("NMAD of dz / (1 + z)", "nmad"),
    Row("off by more than 0.15", "outliers_0.15"),
    Row("off by more than 0.01", "outliers_0.01"),
)


def identical_cells(inputs: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """A row per input: its name, then `IDENTICAL_ROWS`.

    Args:
        inputs: input to figure to estimate in JSON.
    """
    return [
        [name.upper(), *(row.text(read_estimate(figures[row.metric])) for row in IDENTICAL_ROWS)]
        for name, figures in inputs.items()
    ]


def read_identical(folder: Path, model_hash: str) -> list[list[str]]:
    """Cells of a comparison of identical networks; none where it was not made for this model.

    Args:
        folder: output of ``kspecsr identical-networks``.
        model_hash: of the model under judgement.

    Raises:
        ValueError: for a damaged file, naming it.
    """
    path = Path(folder) / "identical_networks.json"
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return identical_cells(content["inputs"]) if content["settings"]["model"] == model_hash else []
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error!r}); run the command that wrote it again") from error


def identical_section(folder: Path, model_hash: str) -> Section | None:
    """Section of the page, or None; arguments as of `read_identical`."""
    rows = read_identical(folder, model_hash)
    if not rows:
        return None
    figure = ShownFigure(
        Path(folder) / "identical_networks.png",
        "Redshifts of held-out galaxies by three networks of one architecture, split and schedule, trained "
        "on interpolated prism (LR), super-resolved (SR) and grating (HR) spectra, with 68 and 95 % contours "
        "(the paper's Fig. 9).",
    )
    text = (
        "The super-resolved spectrum holds what the model learned from galaxies of its own training, its "
        "redshift stage included, which the other two inputs do not: SR better than LR says that its lines "
        "stand in the right places, not that it adds information to the prism.",
    )
    titles = ("input", *(row.title for row in IDENTICAL_ROWS))
    return Section("Identical redshift networks", text, [figure], [ShownTable("Figures", titles, rows, True)])


# -- the summary; published: the authors' own code and documentation

ROWS = (
    Row("Redshift: NMAD of dz/(1+z)", "redshift_nmad", 2),
    Row("Redshift off by more than 0.15", "redshift_outliers_0.15", 2, "10.8 %", percent=True),
    Row("Redshift off by more than 0.01", "redshift_outliers_0.01", 2, percent=True),
    Row("Z_CONF > 0.9", "redshift_confident", 3, percent=True),
    Row("of these off by more than 0.01", "redshift_confident_outliers", 2, percent=True),
    Row("Line flux recovered / true, S/N > 5", "recovery", 3, "0.72–0.87"),
    Row("its robust scatter [ln]", "recovery_scatter", 2),
    Row("Lines of S/N > 5 found at 3 σ", "completeness", 3, percent=True),
    Row("Blended lines: flux error / direct fit's", "blended_error over direct_fit", 2),
    Row("False detections where there is no line", "false_detection", 2, "30 % (Hβ), 44 % ([O II])", True),
    Row("Flux pull, robust scatter", "pull_scatter", 3),
    Row("Line cores: scale-free error / cubic's", "scale_free/core over cubic", 2, "> 1"),
    Row("Line cores: scale-free error / direct fit's", "scale_free/core over direct_fit", 2),
    Row("the same, both at z of SR2", "scale_free/core over direct_fit_found_z", 2),
    Row("Continuum: scale-free error / cubic's", "scale_free/continuum over cubic", 2),
    Row("Amplitude ratio, line cores", "amplitude_ratio", 3, "0.54"),
    Row("FWHM / true FWHM", "fwhm_ratio", 3),
    Row("Resolvable [O III] pairs kept", "pairs_kept/oiii", 3, percent=True),
    Row("Coverage of 68 %: line fluxes", "coverage_68/lines", 3, percent=True),
    Row("Coverage of 68 %: pixels in cores", "coverage_68/core", 3, "too low", percent=True),
    Row("Coverage of 68 %: pixels in continuum", "coverage_68/continuum", 3, percent=True),
    Row("Prism consistency: chi-square per pixel", "prism_chi_square", 3),
    Row("Prior response (1 reads the data)", "response", 2, "0.16 (Roman grism)"),
)
NOTE = (
    "Median or share with its bootstrap interval over galaxies (16-84 %) and n. Redshifts are inferred, but "
    "for the direct fit and 'z known'; oracles are the truth itself, drawn at a redshift that is no better "
    "known (no method with that redshift does better); line fluxes of methods that give none are fitted on "
    "their spectra at the known redshift. Line cores are pixels within 1.5 FWHM of lines of S/N > 5 where "
    "shapes are compared, and within 1 FWHM of lines of S/N > 3 where errors are judged. More figures are in "
    "the tables below; evaluate --all-splits makes them by S/N, redshift, wavelength and line, too."
)
PUBLISHED_NOTE = (
    "Published: what the authors of the framework state of their own code, on their own held-out JADES "
    "galaxies and with their own definitions; these figures and ours are not of the same galaxies."
)
