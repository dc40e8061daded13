"""The paper's Fig. 9 on the page, where it was made for the same model."""

from __future__ import annotations

import json
from pathlib import Path

from kspecsr.evaluation.report import Section, ShownFigure, ShownTable

_NAMES = {
    "nmad": "NMAD of dz / (1 + z)",
    "outliers_0.15": "off by more than 0.15",
    "outliers_0.01": "off by more than 0.01",
}


def identical_section(folder: Path, model_hash: str) -> Section | None:
    """The section, of what ``python -m kspecsr.evaluation.identical_networks`` wrote.

    Args:
        folder: its output.
        model_hash: of the model under judgement: results of another model are not shown.

    Returns:
        None where there are no results for this model.

    Raises:
        ValueError: for a damaged file, naming it.
    """
    path = Path(folder) / "identical_networks.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"]["model"] != model_hash:
            return None
        rows = [
            [which.upper(), *(_cell(figures[name]) for name in _NAMES)]
            for which, figures in content["inputs"].items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is damaged ({error!r}); run the command that wrote it again") from error
    figure = ShownFigure(
        path.with_suffix(".png"),
        "Redshifts of held-out galaxies by three networks of one architecture, split and schedule, trained "
        "on interpolated prism (LR), super-resolved (SR) and grating (HR) spectra, with 68 and 95 % contours "
        "(the paper's Fig. 9).",
    )
    text = (
        "The super-resolved spectrum holds what the model learned from galaxies of its own training, its "
        "redshift stage included, which the other two inputs do not: SR better than LR says that its lines "
        "stand in the right places, not that it adds information to the prism.",
    )
    table = ShownTable("Figures", ("input", *_NAMES.values()), rows, True)
    return Section("Identical redshift networks", text, [figure], [table])


def _cell(estimate: dict) -> str:
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}] n {estimate['n']}"
