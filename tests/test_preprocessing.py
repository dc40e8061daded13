"""Reading, aligning and cutting one galaxy."""

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.jades_names import jades_file_name
from data_pipeline.pairs.matching import Match
from data_pipeline.pairs.preprocessing import (
    QUALITY_LINES,
    PreprocessingConfig,
    QualityError,
    check_quality,
    make_pair,
    read_match,
)
from data_pipeline.pixel_grid import UNIFIED_GRID
from data_pipeline.spectrum import SpectrumMeta
from data_pipeline.writers.jades import write_jades_x1d
from pair_sample import FLUX, REDSHIFT, UNIT, integrated, observe


def test_a_pair_is_aligned_and_measured():
    config = PreprocessingConfig()
    pair = make_pair(observe(PRISM), [observe(name) for name in GRATINGS], REDSHIFT, config)
    assert pair.prism[0].shape == (706,) and pair.prism_unified[0].shape == (UNIFIED_GRID.size,)
    check_quality(pair, config)
    smooth = (UNIFIED_GRID.wavelength > 3.3) & (UNIFIED_GRID.wavelength < 4.0)
    np.testing.assert_allclose(pair.prism_unified[0][smooth], pair.stitched.flux[smooth], rtol=0.01)


def test_line_flux_survives_align_for_another_prism_sampling():
    own = load_instrument(PRISM).wavelength
    coarse = np.interp(np.arange(0, 705, 1.49), np.arange(706), own)
    pair = make_pair(observe(PRISM, pixels=coarse), [observe("nirspec-g235m")], REDSHIFT)
    centre = 0.6564629 * (1 + REDSHIFT)
    expected = (FLUX["Halpha"] + FLUX["[NII]_6550"] + FLUX["[NII]_6585"]) * UNIT
    got = integrated(own, load_instrument(PRISM).bounds, pair.prism[0], centre, 0.12)
    assert got == pytest.approx(expected, rel=0.005, abs=0)


def test_the_quality_cut_names_every_line():
    rng = np.random.default_rng(0)
    pair = make_pair(observe(PRISM), [observe("nirspec-g235m", 0.0, 1e-19, rng)], REDSHIFT)
    with pytest.raises(
        QualityError, match=r"S/N Halpha .*\[OII\]_3727\+\[OII\]_3730 nan.*\(nan: not covered\)"
    ) as info:
        check_quality(pair, PreprocessingConfig())
    assert info.value.step == "line at S/N > 5"


def test_extraction_is_checked():
    with pytest.raises(ValueError, match="expected extraction 3pix or 5pix, got '4pix'"):
        PreprocessingConfig(extraction="4pix")


@pytest.mark.parametrize(("apart", "kept"), [(0.0, True), (0.18, True), (0.22, False), (2.0, False)])
@pytest.mark.parametrize("along", ["ra", "dec"])
def test_headers_whose_positions_differ_by_more_than_a_fifth_of_an_arcsecond_are_refused(
    tmp_path, apart, kept, along
):
    ra, dec, paths = 53.1, -27.9, []
    for name, offset in ((PRISM, 0.0), ("nirspec-g235m", apart / 3600)):
        spectrum, instrument = observe(name), load_instrument(name)
        meta = SpectrumMeta(
            target="00000007",
            source_id="7",
            disperser=instrument.disperser,
            filter=instrument.filter,
            tier="goods-s-deephst",
            field="goods-s",
            program="1210",
            ra=ra + (offset / np.cos(np.deg2rad(dec)) if along == "ra" else 0.0),
            dec=dec + (offset if along == "dec" else 0.0),
        )
        paths.append(
            tmp_path / jades_file_name("goods-s-deephst", 7, instrument.filter, instrument.disperser)
        )
        write_jades_x1d(paths[-1], spectrum.replace(meta=meta), spectrum.replace(meta=meta))
    found = Match("goods-s-deephst_7", "goods-s-deephst", "goods-s", ra, dec, REDSHIFT, "A",
                  str(paths[0]), (str(paths[1]),))  # fmt: skip
    if kept:
        pair = make_pair(*read_match(found, PreprocessingConfig()), REDSHIFT)
        assert pair.extraction == {"PRISM": "3pix", "G235M": "3pix"}
    else:
        with pytest.raises(QualityError, match=rf"{apart:.2f} arcsec from its prism, 0\.2 allowed") as caught:
            read_match(found, PreprocessingConfig())
        assert caught.value.step == "positions agree"


@pytest.mark.parametrize("names", [("Halpha",), ("[OII]_3727", "[OII]_3730"), ("[OIII]_4960", "[OIII]_5008")])
def test_the_quality_cut_is_passed_by_any_of_its_lines_alone(names):
    config = PreprocessingConfig()
    lines = {name: FLUX[name] for name in names}
    pair = make_pair(observe(PRISM), [observe(n, lines=lines) for n in GRATINGS], REDSHIFT, config)
    passing = [q for q in QUALITY_LINES if pair.lines.signal_to_noise(*q) > 5]
    assert len(passing) == 1 and set(passing[0]) <= set(names)
    check_quality(pair, config)
    with pytest.raises(QualityError, match="no significant line"):
        check_quality(pair, PreprocessingConfig(minimum_line_snr=1e4))


@pytest.mark.parametrize("names", [(), ("Hbeta",), ("[SIII]_9533",)])
def test_the_quality_cut_is_passed_by_no_other_line(names):
    lines = dict.fromkeys(names, 3.0)
    pair = make_pair(observe(PRISM), [observe(n, lines=lines) for n in GRATINGS], REDSHIFT)
    with pytest.raises(QualityError, match="no significant line"):
        check_quality(pair, PreprocessingConfig())
