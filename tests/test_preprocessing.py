"""Reading, aligning and cutting one galaxy."""

import numpy as np
import pytest

from data_pipeline.instrument import GRATINGS, PRISM, load_instrument
from data_pipeline.pairs.preprocessing import PreprocessingConfig, QualityError, check_quality, make_pair
from data_pipeline.pixel_grid import UNIFIED_GRID
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
