"""Importance of the axes: how much worse a random forest predicts trials when one axis is shuffled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from scipy.stats import rankdata, spearmanr

from data_pipeline.pictures.style import new_figure, styled
from tuning.space import Axis
from tuning.trial_record import FAILED, STOPPED, TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 8  # trials
_FOLDS, _ROUNDS, _SHUFFLES, _TREES = 4, 4, 6, 100
_UP, _DOWN, _NONE = "#d55e00", "#0072b2", "#888888"


class TooFewTrialsError(ValueError):
    """Not enough trials to say anything."""


def importances(axes: Sequence[Axis], records: Sequence[TrialRecord]) -> Table:
    """Importance of each axis for the goal, the most important first.

    Goals count by their rank, so that one that diverged does not count for more than all the others. A trial
    that was stopped early counts by the goal it had then: it was behind others of its age, and lower goals
    come with age. The forest is judged, and shuffled, on trials that it was not fitted to.

    Args:
        axes: axes of the search.
        records: trials that have ended.

    Returns:
        Columns ``name``; ``importance``, the fraction of the variance of the goal's ranks that is lost when
        the axis is shuffled, and its one-sigma ``error``; ``correlation``, Spearman's, of value and goal
        (positive if larger values are worse, NaN for words) and its ``p_value``. In the header ``explained``,
        the fraction of the variance that the forest predicts, and the numbers ``stopped_early`` and
        ``trials``.

    Raises:
        TooFewTrialsError: saying how many there are and how many are needed.
    """
    # scikit-learn takes a second to import
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import RepeatedKFold, cross_validate

    used = [record for record in records if record.curve and record.state != FAILED]
    if len(used) < LEAST:
        raise TooFewTrialsError(f"{len(used)} trials; importance needs {LEAST} or more")
    ranks = rankdata([record.goal for record in used], method="ordinal") / len(used)
    values = np.array([[_number(axis, record) for axis in axes] for record in used])
    fits = cross_validate(
        # Two trials per leaf at least: of some dozen trials a full-grown tree learns each by heart.
        RandomForestRegressor(_TREES, random_state=0, min_samples_leaf=2),
        values,
        ranks,
        scoring="neg_mean_squared_error",
        cv=RepeatedKFold(n_splits=_FOLDS, n_repeats=_ROUNDS, random_state=0),
        return_estimator=True,
        return_indices=True,
    )
    losses = [
        permutation_importance(
            forest,
            values[held],
            ranks[held],
            scoring="neg_mean_squared_error",
            n_repeats=_SHUFFLES,
            random_state=0,
        ).importances_mean
        for forest, held in zip(fits["estimator"], fits["indices"]["test"], strict=True)
    ]
    losses = np.array(losses) / np.var(ranks)  # (folds, axes)
    table = Table(
        {
            "name": [axis.name for axis in axes],
            "importance": losses.mean(axis=0),
            # folds share trials: their scatter itself, not divided by the root of their number
            "error": losses.std(axis=0, ddof=1),
        }
    )
    correlations = [_correlation(axis, used, ranks) for axis in axes]
    table["correlation"], table["p_value"] = np.array(correlations).T
    table.sort("importance", reverse=True)
    table.meta = {
        "explained": 1.0 + float(fits["test_score"].mean() / np.var(ranks)),
        "stopped_early": sum(record.state == STOPPED for record in used),
        "trials": len(used),
    }
    return table


def _number(axis: Axis, record: TrialRecord) -> float:
    """A trial's value for the forest; words go by their place in the list."""
    value = record.values[axis.name]
    if not axis.numeric:
        return float(axis.choices.index(value))
    return math.log(value) if axis.log else float(value)


def _correlation(axis: Axis, records: Sequence[TrialRecord], ranks: np.ndarray) -> tuple[float, float]:
    values = [record.values[axis.name] for record in records]
    if not axis.numeric or len(set(values)) < 2:
        return math.nan, math.nan
    result = spearmanr(values, ranks)
    return float(result.statistic), float(result.pvalue)


@styled
def draw_importances(table: Table, title: str) -> Figure:
    """Bars with one-sigma errors; colours say in which direction the goal gets worse.

    Args:
        table: see `importances`.
        title: text above the picture.
    """
    from matplotlib.patches import Patch

    figure = new_figure(0.28 * len(table) + 1.5)
    panel = figure.subplots()
    correlation = np.asarray(table["correlation"])
    colours = np.select([correlation > 0, correlation <= 0], [_UP, _DOWN], _NONE)
    places = np.arange(len(table))
    panel.barh(
        places,
        table["importance"],
        xerr=table["error"],
        color=colours,
        ecolor="#333333",
        height=0.65,
        capsize=2,
    )
    words = ["words" if math.isnan(value) else f"{value:+.2f}" for value in correlation]
    beside = panel.get_yaxis_transform()
    for place, text in [*zip(places, words, strict=True), (-0.9, "rank corr.")]:
        panel.text(1.01, place, text, transform=beside, va="center", fontsize=8)
    panel.set_yticks(places, list(table["name"]))
    panel.set_ylim(len(table) - 0.4, -0.6)  # the most important on top
    panel.tick_params(axis="y", which="both", length=0)
    panel.axvline(0.0, color="#333333", linewidth=0.8)
    panel.set_xlabel("share of the goal's variance lost when the axis is shuffled")
    panel.set_title(title, loc="left", fontsize=9)
    legend = {_UP: "larger is worse", _DOWN: "larger is better", _NONE: "no order"}
    patches = [Patch(color=colour, label=text) for colour, text in legend.items()]
    panel.legend(handles=patches, loc="lower right")
    return figure
