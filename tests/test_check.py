import numpy as np
import pytest

from benchmarks.stitching_check import (
    FLUX_TOLERANCE,
    SCALE_TOLERANCE,
    Findings,
    ScaleRecovery,
    examine,
    line_flux_ratio,
    main,
    report,
    scale_recoveries,
    seam_steps,
)
from data_pipeline.instrument import GRATINGS, PRISM
from data_pipeline.pairs.preprocessing import PreprocessingConfig, make_pair
from data_pipeline.simulation.archive import write_archive
from data_pipeline.simulation.config import Nuisances, SimulationConfig
from pair_sample import REDSHIFT, observe

CONFIG = PreprocessingConfig()
INJECTED = {"G140M": 0.9, "G235M": 1.05, "G395M": 1.25}


def observed(scales):
    return [observe(name, scale=scales[d]) for name, d in zip(GRATINGS, INJECTED, strict=True)]


def joined(scales):
    gratings = observed(scales)
    return make_pair(observe(PRISM), gratings, REDSHIFT, CONFIG), gratings


@pytest.fixture(scope="module")
def scaled():
    return joined(INJECTED)


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """An archive without noise."""
    folder = tmp_path_factory.mktemp("sharp")
    config = SimulationConfig(nuisances=Nuisances(noise_scale=0.0))
    write_archive(folder, 12, 1, config, workers=1, progress=False)
    return folder


def good_findings(**other):
    recoveries = [ScaleRecovery("G395M", 1.001, 1.0, e) for e in (0.0015, 0.0016, 0.02)]
    return Findings(**{"scales": recoveries, "steps": [0.1, -0.2, 0.3], "flux_ratios": [1.0, 1.001], **other})


def test_injected_scales_are_recovered_and_a_wrong_one_is_seen(scaled):
    pair, _ = scaled
    found = {r.arm: r for r in scale_recoveries(pair.stitched, INJECTED)}
    assert found.keys() == {"G140M", "G395M"}  # the reference has none
    for arm, one in found.items():
        assert one.injected == pytest.approx(INJECTED["G235M"] / INJECTED[arm])
        assert one.recovered == pytest.approx(one.injected, rel=SCALE_TOLERANCE)
        assert one.error < 0.1
    wrong = {r.arm: r for r in scale_recoveries(pair.stitched, {**INJECTED, "G395M": 1.0})}
    assert wrong["G395M"].recovered / wrong["G395M"].injected == pytest.approx(1 / 1.25, rel=0.01)
    assert wrong["G140M"] == found["G140M"]


def test_arms_that_do_not_overlap_give_no_scale():
    gratings = observed(INJECTED)
    ends = [
        g.replace(mask=(g.wavelength < low) | (g.wavelength > high))
        for g, (low, high) in zip(gratings, ((0.0, 1.6), (1.8, 2.7), (3.2, 6.0)), strict=True)
    ]
    pair = make_pair(observe(PRISM), ends, REDSHIFT, CONFIG)
    assert scale_recoveries(pair.stitched, INJECTED) == []


def test_seams_of_noise_free_arms_have_no_step_and_unscaled_ones_would(scaled):
    pair, _ = scaled
    steps = seam_steps(pair.stitched)
    assert len(steps) == len(pair.stitched.seams) == 4
    assert max(map(abs, steps)) < 0.5
    # the same seams with a step of five sigma put in by hand
    stitched = pair.stitched
    torn = np.where(stitched.wavelength > stitched.seams[0], 5 * np.nanmedian(stitched.error), 0.0)
    broken = type(stitched)(**{**vars(stitched), "flux": stitched.flux + torn})
    assert abs(seam_steps(broken)[0] - steps[0]) > 2


@pytest.mark.parametrize("redshift", [0.6, REDSHIFT, 5.4])
def test_line_flux_survives_stitching_and_alignment(redshift):
    gratings = [
        observe(name, scale=INJECTED[d], redshift=redshift)
        for name, d in zip(GRATINGS, INJECTED, strict=True)
    ]
    pair = make_pair(observe(PRISM, redshift=redshift), gratings, redshift, CONFIG)
    assert line_flux_ratio(pair, gratings, redshift, CONFIG.grid) == pytest.approx(1.0, abs=FLUX_TOLERANCE)


def test_lost_line_flux_is_seen(scaled):
    pair, gratings = scaled
    stitched = type(pair.stitched)(**{**vars(pair.stitched), "flux": 0.9 * pair.stitched.flux})
    less = type(pair)(**{**vars(pair), "stitched": stitched})
    assert line_flux_ratio(less, gratings, REDSHIFT, CONFIG.grid) == pytest.approx(0.9, abs=FLUX_TOLERANCE)


def test_without_a_bright_line_there_is_no_flux_ratio():
    gratings = [observe(name, lines={}) for name in GRATINGS]
    pair = make_pair(observe(PRISM, lines={}), gratings, REDSHIFT, CONFIG)
    assert np.isnan(line_flux_ratio(pair, gratings, REDSHIFT, CONFIG.grid))


def test_good_findings_pass_and_each_figure_has_its_line():
    text, passed = report(good_findings(), noise_free=True)
    assert passed and "MISS" not in text
    for words in (
        "scale, recovered over injected",
        "step at a seam [sigma of a pixel]",
        "line flux after over before",
        "wanted 1 +- 0.01",
        "wanted 1 +- 0.005",
        "largest deviation",
    ):
        assert words in text
    assert "line flux" not in report(good_findings(), noise_free=False)[0]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"scales": [ScaleRecovery("G395M", 1.05, 1.0, 0.01)] * 3}, "scale, recovered over injected"),
        ({"steps": [0.8, -0.9, 1.0]}, "step at a seam"),
        ({"flux_ratios": [0.98, 0.99]}, "line flux after over before"),
    ],
)
def test_each_figure_out_of_tolerance_is_a_miss(other, words):
    text, passed = report(good_findings(**other), noise_free=True)
    assert not passed
    assert any(words in row and "MISS" in row for row in text.splitlines())


def test_nothing_to_measure_is_no_pass():
    text, passed = report(Findings(), noise_free=True)
    assert not passed
    assert text.count("nothing to measure") >= 3


def test_noise_free_archive_keeps_its_line_fluxes(sharp, capsys):
    findings = examine(str(sharp), True, True)
    assert len(findings.scales) > 10 and len(findings.steps) > 10
    assert findings.flux_ratios and np.allclose(findings.flux_ratios, 1.0, atol=FLUX_TOLERANCE)
    wanted = 0 if report(findings, True)[1] and not findings.skipped else 1
    assert main(["--archive", str(sharp), "--noise-free", "--quiet"]) == wanted
    assert "line flux after over before" in capsys.readouterr().out


def test_exit_status_follows_the_report_and_what_was_left_out(sharp, monkeypatch, capsys):
    arguments = ["--archive", str(sharp), "--noise-free", "--quiet"]
    for findings, status in (
        (good_findings(), 0),
        (good_findings(steps=[2.0, 3.0]), 1),
        (good_findings(skipped=["galaxy: files readable: cut"]), 1),
    ):
        monkeypatch.setattr("benchmarks.stitching_check.examine", lambda *_, found=findings: found)
        assert main(arguments) == status
    assert "galaxy: files readable: cut" in capsys.readouterr().err


def test_archive_that_is_none_is_an_error_of_one_line(tmp_path, capsys):
    assert main(["--archive", str(tmp_path / "none"), "--quiet"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and "none" in shown.err and shown.out == ""
