"""Simulated beside real: the comparison sees what it should, from observations alone."""

import numpy as np
import pytest

from benchmarks.simulation_check import REASONS, Comparison, compare, report
from benchmarks.simulation_measurements import measure_simulation
from benchmarks.simulation_picture import draw_simulation_check
from data_pipeline.simulation import Nuisances, Population, SimulationConfig


@pytest.fixture(scope="module")
def measured():
    seen = []
    result = measure_simulation(256, 2, SimulationConfig(), seen.append)
    assert sum(seen) == 256
    return result


def figures(measured):
    return {f"{item.group}: {item.name}": item for item in compare(measured)}


def test_noise_and_instrument_agree_with_jades(measured):
    found = figures(measured)
    for name, item in found.items():
        if item.group in ("noise", "prism error"):
            assert item.passes, name
    assert found["instrument: R from lines / tabulated R, 50 %"].simulated == pytest.approx(1.22, abs=0.03)
    assert found["instrument: prism / grating line flux, 50 %"].simulated == pytest.approx(1.13, abs=0.06)


def test_most_line_figures_agree_with_jades(measured):
    items = [i for i in compare(measured) if i.group in ("detections", "line fluxes", "line errors")]
    assert np.mean([item.passes for item in items]) > 0.7  # 256 galaxies: sampling errors are large


def test_a_wrong_simulation_is_caught():
    wrong = SimulationConfig(
        Population(line_sn_median=8.0),
        Nuisances(prism_resolution_scale=1.0, flux_ratio=1.6, quoted_error=2.0),
    )
    found = figures(measure_simulation(96, 2, wrong))
    for name in (
        "detections: HBaA_6563 above 20 sigma",
        "instrument: R from lines / tabulated R, 50 %",
        "instrument: prism / grating line flux, 50 %",
        "noise: prism scatter / quoted error",
    ):
        assert not found[name].passes, name


def test_the_report_states_tolerances_reasons_and_misses():
    items = [
        Comparison("noise", "one", 1.0, 1.01, 0.05),
        Comparison("noise", "two", 1.0, 1.2, 0.05),
        Comparison("instrument", "three", 1.0, float("nan"), 0.05),
    ]
    text = report(items, 7)
    assert text.startswith("simulated beside JADES, 7 simulated observations")
    assert f"noise: {REASONS['noise']}" in text
    assert "3 figures, 2 outside their tolerance" in text
    assert "missed: noise, two" in text
    assert "missed: instrument, three" in text
    assert text.count("pass") == 1


def test_ranges_and_limits_are_judged_as_such():
    inside = Comparison("continuum", "a", (5.0, 8.0), 7.9, 0.0)
    above = Comparison("continuum", "b", (5.0, 8.0), 8.1, 0.0)
    below = Comparison("continuum", "c", (5.0, 8.0), 4.9, 0.0)
    good = Comparison("instrument", "d", (-np.inf, 200.0), 0.0, 0.0)
    bad = Comparison("instrument", "e", (-np.inf, 200.0), 201.0, 0.0)
    assert [item.verdict for item in (inside, above, below, good, bad)] == [
        "pass",
        "MISS",
        "MISS",
        "pass",
        "MISS",
    ]
    text = report([inside, above, below, good, bad], 7)
    assert "5 to 8" in text and "< 200" in text
    assert "5 figures, 3 outside their tolerance, 0 on too few galaxies" in text


def test_too_few_galaxies_are_not_judged():
    few = Comparison("line ratios", "a", 1.0, float("nan"), 0.1, count=7)
    enough = Comparison("line ratios", "b", 1.0, float("nan"), 0.1, count=8)
    text = report([few, enough], 7)
    assert (few.verdict, enough.verdict) == ("too few", "MISS")
    assert "2 figures, 1 outside their tolerance, 1 on too few galaxies to judge" in text
    assert "missed: line ratios, a" not in text and "missed: line ratios, b" in text


def test_every_figure_can_fail(measured):
    for item in compare(measured):
        if item.group in ("redshift", "detections"):
            assert item.real - item.tolerance > 0, item.name
        if isinstance(item.real, tuple):
            assert item.tolerance == 0, item.name


def test_the_picture_has_a_panel_per_subject(measured):
    figure = draw_simulation_check(measured)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 12
    assert all(axis.get_xlabel() for axis in figure.axes)
    assert sum("denominator above" in title for title in titles) == 6
