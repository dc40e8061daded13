"""Whether a spectrum is described as well as simulated ones: the table, the probability, the flag, files."""

import math
from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.configuration import to_dict
from data_pipeline.readers.format import ReadOptions
from enhancement_sample import BINS, IDENTITY, SecondStandIn, StandIn, prism_spectrum
from kspecsr.configuration.calibration import Calibration, FitTable
from kspecsr.enhancement.inputs import InputFile
from kspecsr.enhancement.run import Settings, existing_header, is_done
from kspecsr.evaluation.calibrate import measure_fit
from kspecsr.layers.calibration import FitProbability, median_signal_to_noise
from kspecsr.results.flags import FLAG_MEANINGS, LEAST_FIT, POOR_FIT, STATUS_BITS
from kspecsr.results.many import lines_of
from kspecsr.results.result import Result
from kspecsr.results.table import row_of
from kspecsr.super_resolver import SuperResolver

TABLE = FitTable((0.0, 1.0), (0.9, 0.5, 0.01), ((0.9, 1.0, 1.2), (1.0, 2.0, 4.0)))


def drawn(n, seed):
    """Chi-squares whose centre and width rise with S/N, and their S/N."""
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.uniform(0.0, 2.0, n)
    return np.exp(0.1 * level**0.3 * rng.standard_normal(n) + 0.05 * level**0.5), level


def probability(table, chi_square, level):
    """Of spectra of four pixels that all have this S/N."""
    flux = np.repeat(np.asarray(level, "float32")[:, None], 4, axis=1)
    layer = FitProbability(table.place, table.share, table.chi_square)
    return np.asarray(layer(np.asarray(chi_square, "float32"), flux, np.ones_like(flux), flux < 0))


def test_probabilities_are_uniform_on_spectra_drawn_as_the_table_was_made():
    found = probability(measure_fit(*drawn(8000, 1)), *(sample := drawn(20_000, 2)))
    for part in (sample[1] < 5, sample[1] > 20, sample[1] > 0):
        for share in (0.8, 0.5, 0.2, 0.05):
            assert np.mean(found[part] < share) == pytest.approx(share, abs=0.025)
    assert np.mean(found < 0.001) < 0.003  # beyond the table


def test_the_layer_is_the_interpolation():
    chi_square, level = (
        np.array([0.95, 1.1, 1.8, 3.0, 0.01, np.nan]),
        np.array([0.5, 1.0, 10.0, 10**0.5, 5, 5]),
    )
    found = probability(TABLE, chi_square, level)
    place = np.clip(np.log10(level), 0, 1)
    for p, c, x in zip(found[:3], chi_square[:3], place[:3], strict=True):
        usual = [np.interp(x, TABLE.place, np.log(column)) for column in np.transpose(TABLE.chi_square)]
        assert p == pytest.approx(np.exp(np.interp(np.log(c), usual, np.log(TABLE.share))), rel=1e-4)
    # beyond the last: a power of chi-square
    low, high = np.sqrt(1.0 * 2.0), np.sqrt(1.2 * 4.0)
    power = np.log(0.01 / 0.5) / np.log(high / low)
    assert found[3] == pytest.approx(0.01 * (3.0 / high) ** power, rel=1e-3)
    assert found[4] == pytest.approx(0.9, rel=1e-5) and np.isnan(found[5])
    one = FitTable((0.0,), TABLE.share, TABLE.chi_square[:1])
    assert probability(one, [1.0], [7.0])[0] == pytest.approx(0.5, rel=1e-5)


def test_the_median_is_that_of_good_pixels():
    rng = np.random.default_rng(0)
    flux, error, mask = rng.normal(1, 1, (6, 51)), rng.uniform(0.5, 2, (6, 51)), rng.random((6, 51)) < 0.3
    mask[0], mask[1] = True, False
    found = np.asarray(median_signal_to_noise(flux, error, mask))
    assert np.isinf(found[0])
    for row in range(1, 6):
        good = ~mask[row]
        assert found[row] == pytest.approx(np.median(flux[row, good] / error[row, good]), rel=1e-5)


class Judged(StandIn):
    """The stand-in with a share of spectra that fit worse."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def row(self, one):
        return {**super().row(one), "fit_probability": self.share}


def judged(share, **options):
    return SuperResolver(Judged(share), IDENTITY, BINS)(prism_spectrum(), **options)


def test_a_poor_fit_is_flagged_and_has_no_lines():
    good, poor = judged(2 * LEAST_FIT), judged(0.5 * LEAST_FIT)
    assert good.flags == () and not good.poor_fit and good.measurements.detected.any()
    assert poor.flags == (POOR_FIT,) and poor.poor_fit and not poor.measurements.reported.any()
    assert np.isnan(poor.continuum).all() and np.array_equal(poor.flux, poor.sr1_flux, equal_nan=True)
    assert row_of(poor, "x").p_fit == poor.fit_probability == pytest.approx(0.5 * LEAST_FIT)
    assert judged(0.5 * LEAST_FIT, redshift=3.2).flags == (POOR_FIT,)
    # a served model of an older version has its bits as they were
    assert list(FLAG_MEANINGS)[-1] == POOR_FIT and STATUS_BITS["INVALID_REDSHIFT"] == 64


def test_lines_of_flagged_spectra_are_kept_where_asked_for():
    poor, kept = judged(0.0), judged(0.0, keep_flagged=True)
    assert kept.flags == poor.flags == (POOR_FIT,) and kept.lines_kept and not poor.lines_kept
    fine = judged(1.0, keep_flagged=True)
    assert not fine.lines_kept
    np.testing.assert_array_equal(kept.measurements.flux, fine.measurements.flux)
    np.testing.assert_array_equal(kept.flux, fine.flux)
    assert row_of(kept, "x").brightest_line and len(lines_of([kept])) == len(lines_of([fine]))
    assert "flags: POOR_FIT, [OIII]_5008" in row_of(kept, "x").summary and not len(lines_of([poor]))
    nothing = prism_spectrum()
    nothing = nothing.replace(mask=np.arange(len(nothing)) > 20)
    assert not SuperResolver(Judged(0.0), IDENTITY, BINS)(
        nothing, keep_flagged=True
    ).measurements.reported.any()


@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_flagged_results_of_models_with_joint_errors_are_read_again(tmp_path, ending):
    """They have no line, so their covariance has no row."""

    class Poor(SecondStandIn):
        def row(self, one):
            return {**super().row(one), "fit_probability": 0.0}

    result = SuperResolver(Poor(), IDENTITY, BINS)(prism_spectrum())
    assert result.flags == (POOR_FIT,) and np.isnan(result.measurements.broad.probability)
    first, again = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    result.write(first)
    read = Result.read(first)
    assert read.joint_lines.correlated and np.isnan(read.joint_lines.covariance).all()
    assert read.measurements.broad is not None and not read.measurements.broad.likely
    read.write(again)
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("ending", ["fits", "ecsv"])
def test_files_keep_the_probability_and_whether_lines_were_kept(tmp_path, ending, keep):
    first, again = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    judged(1e-5, keep_flagged=keep).write(first)
    read = Result.read(first)
    assert read.fit_probability == pytest.approx(1e-5)
    assert read.lines_kept == keep == read.measurements.reported.any()
    read.write(again)
    assert first.read_bytes() == again.read_bytes()


def test_a_flagged_result_is_made_again_when_its_lines_are_asked_for(tmp_path):
    file = InputFile(tmp_path / "x.fits", "x")
    settings = Settings(tmp_path, "fits", False, ReadOptions(), False, IDENTITY.sha256, keep_flagged=True)
    for share, again in ((0.0, False), (1.0, True)):
        result = judged(share)
        result.write(settings.result_path(file))
        header = existing_header(settings, file)
        meta = replace(result.observed.meta, sha256=header["INPUTSHA"], extraction=header["EXTRACT"])
        assert is_done(settings, file, meta, math.nan, header) == again
        assert is_done(replace(settings, keep_flagged=False), file, meta, math.nan, header)


def test_a_calibration_keeps_its_table_and_older_ones_have_none():
    calibration = Calibration(fit=TABLE)
    assert Calibration.from_dict(to_dict(calibration)) == calibration
    old = to_dict(Calibration())
    old.pop("fit")
    assert Calibration.from_dict(old).fit is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"chi_square": ((1.0, 2.0, 3.0),)}, "a row of chi-squares for each of 2 S/N"),
        ({"place": (1.0, 0.0)}, "to rise"),
        ({"chi_square": ((1.0, 1.0, 2.0),) * 2}, "to rise"),
        ({"share": (0.5, 0.9, 0.1)}, "shares that fall"),
    ],
)
def test_a_table_without_sense_is_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        replace(TABLE, **changed)
