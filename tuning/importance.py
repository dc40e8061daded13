"""Which axes matter: a random forest on the trials, and how much worse it gets when one axis is shuffled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

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


@dataclass(frozen=True)
class AxisImportance:
    """One axis.

    Attributes:
        name: of the axis.
        importance: share of the goal's variance, in ranks, that is lost when the axis is shuffled.
        error: one sigma of it, over folds.
        correlation: Spearman's, of value and goal; positive where larger values are worse. NaN for words.
        p_value: of the correlation.
    """

    name: str
    importance: float
    error: float
    correlation: float
    p_value: float


@dataclass(frozen=True)
class Importances:
    """All axes.

    Attributes:
        axes: the most important first.
        explained: share of the variance that the forest predicts of trials that it was not fitted to.
        stopped: trials among them that were stopped early, which count by the goal that they had then.
        trials: that were compared.
    """

    axes: tuple[AxisImportance, ...]
    explained: float
    stopped: int
    trials: int


def importances(axes: Sequence[Axis], records: Sequence[TrialRecord], seed: int = 0) -> Importances:
    """Importance of each axis for the goal.

    Goals count by their rank, so that one that diverged does not count for more than all the others. A trial
    that was stopped early counts by the goal it had then: it was behind others of its age, and lower goals
    come with age. The forest is judged, and shuffled, on trials that it was not fitted to.

    Args:
        axes: of the search.
        records: trials that have ended.
        seed: of forests, folds and shuffling.

    Raises:
        TooFewTrialsError: saying how many there are and how many are needed.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import RepeatedKFold

    used = [record for record in records if record.curve and record.state != FAILED]
    goals = np.array([record.goal for record in used])
    if len(used) < LEAST:
        raise TooFewTrialsError(f"{len(used)} trials; importance needs {LEAST} or more")
    ranks = np.argsort(np.argsort(goals, kind="stable"), kind="stable") / (len(used) - 1.0)
    table, owner = _features(axes, used)
    drops, scores = [], []
    folds = RepeatedKFold(n_splits=_FOLDS, n_repeats=_ROUNDS, random_state=seed)
    for number, (fitted, held) in enumerate(folds.split(table)):
        forest = RandomForestRegressor(_TREES, random_state=seed + number, min_samples_leaf=2)
        forest.fit(table[fitted], ranks[fitted])
        scores.append((forest.predict(table[held]), ranks[held]))
        drop = np.zeros(len(axes))
        for column in range(len(axes)):
            drop[column] = _drop(forest, table[held], ranks[held], owner == column, seed + number)
        drops.append(drop)
    variance = float(np.var(ranks))
    predicted, true = (np.concatenate(part) for part in zip(*scores, strict=True))
    explained = 1.0 - float(np.mean((predicted - true) ** 2)) / variance
    drops = np.array(drops) / variance
    found = []
    for column, axis in enumerate(axes):
        correlation, p_value = _correlation(axis, used, ranks)
        spread = float(drops[:, column].std(ddof=1))
        # folds share trials: their scatter, not that over the root of their number
        found.append(AxisImportance(axis.name, float(drops[:, column].mean()), spread, correlation, p_value))
    found.sort(key=lambda each: -each.importance)
    return Importances(tuple(found), explained, sum(r.state == STOPPED for r in used), len(used))


def _drop(forest, table: np.ndarray, goals: np.ndarray, columns: np.ndarray, seed: int) -> float:
    # scikit-learn's own shuffles one column at a time; those of a word belong together
    generator = np.random.default_rng(seed)
    error = np.mean((forest.predict(table) - goals) ** 2)
    shuffled = np.tile(table, (_SHUFFLES, 1))
    order = np.concatenate([generator.permutation(len(table)) for _ in range(_SHUFFLES)])
    shuffled[:, columns] = table[order][:, columns]
    return float(np.mean((forest.predict(shuffled) - np.tile(goals, _SHUFFLES)) ** 2) - error)


def _features(axes: Sequence[Axis], records: Sequence[TrialRecord]) -> tuple[np.ndarray, np.ndarray]:
    """(trials, columns), one column to a number and one to each word; and the axis of each column."""
    columns, owner = [], []
    for index, axis in enumerate(axes):
        values = [record.values[axis.name] for record in records]
        if axis.numeric:
            columns.append([math.log(value) if axis.log else float(value) for value in values])
            owner.append(index)
        else:
            for word in axis.choices:
                columns.append([float(value == word) for value in values])
                owner.append(index)
    return np.array(columns).T, np.array(owner)


def _correlation(axis: Axis, records: Sequence[TrialRecord], ranks: np.ndarray) -> tuple[float, float]:
    values = [record.values[axis.name] for record in records]
    if not axis.numeric or len(set(values)) < 2:
        return math.nan, math.nan
    result = spearmanr(values, ranks)
    return float(result.statistic), float(result.pvalue)


@styled
def draw_importances(found: Importances, title: str) -> Figure:
    """Bars with one-sigma errors; colours say in which direction the goal gets worse.

    Args:
        found: all axes.
        title: above it.
    """
    from matplotlib.patches import Patch

    figure = new_figure(0.28 * len(found.axes) + 1.5)
    panel = figure.subplots()
    for place, axis in enumerate(reversed(found.axes)):
        colour = _NONE if math.isnan(axis.correlation) else _UP if axis.correlation > 0 else _DOWN
        panel.barh(
            place, axis.importance, xerr=axis.error, color=colour, height=0.65, ecolor="#333333", capsize=2
        )
        text = "words" if math.isnan(axis.correlation) else f"{axis.correlation:+.2f}"
        panel.text(1.01, place, text, transform=panel.get_yaxis_transform(), va="center", fontsize=8)
    panel.text(
        1.01, len(found.axes) - 0.3, "rank\ncorr.", transform=panel.get_yaxis_transform(), fontsize=7.5
    )
    panel.set_yticks(range(len(found.axes)), [axis.name for axis in reversed(found.axes)])
    panel.tick_params(axis="y", which="minor", length=0)
    panel.tick_params(axis="y", which="both", length=0)
    panel.axvline(0.0, color="#333333", linewidth=0.8)
    panel.set_xlabel("share of the goal's variance lost when the axis is shuffled")
    panel.set_title(title, loc="left", fontsize=9)
    panel.legend(
        handles=[
            Patch(color=_UP, label="larger is worse"),
            Patch(color=_DOWN, label="larger is better"),
            Patch(color=_NONE, label="no order"),
        ],
        loc="lower right",
    )
    return figure
