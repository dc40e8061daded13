"""An exported model with joint line errors and an open world answers as it does in Python."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr import export, load
from kspecsr.client import connect
from kspecsr.configuration import OBJECT_CLASSES
from kspecsr.results.prism_input import PrismInput, prism_wavelength
from kspecsr.results.result import Result
from kspecsr.serving.saved_model import foreign_operations
from model_sample import SECOND, spectra, tiny_model
from prediction_service import prediction_service

N = 4


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Results of the client at known redshifts, those of Python, and P(z) alone beside the whole."""
    folder = tmp_path_factory.mktemp("second")
    model = tiny_model(folder / "model", model=replace(SECOND, lines="second"))
    assert export.main(["--model", str(model), "--output", str(folder / "kspecsr"), "--quiet"]) == 0
    assert foreign_operations(folder / "kspecsr" / "1") == []
    _, batch = spectra(N, seed=4)
    inputs = []
    for flux, error, mask in zip(batch.prism_flux, batch.prism_error, batch.prism_mask, strict=True):
        flux, error = (np.where(mask, fill, x) for fill, x in ((0.0, flux), (1.0, error)))
        observed = ObservedSpectrum(prism_wavelength(), flux, error, mask, SpectrumMeta(path="x.fits"))
        inputs.append(PrismInput(observed, flux, error, mask))
    redshift = [float(z) for z in np.nan_to_num(batch.redshift, nan=2.0)]
    with prediction_service(folder / "kspecsr" / "1") as (served, grpc, rest):
        found = connect(grpc).resolve(inputs, redshift)
        (by_rest,) = connect(rest).resolve(inputs[:1], redshift[:1])
        arrays = {
            "flux": batch.prism_flux.astype("f4"),
            "error": batch.prism_error.astype("f4"),
            "mask": batch.prism_mask,
        }
        alone, whole = (served.predict(name, arrays) for name in ("classify_redshift", "serving_default"))
    np.testing.assert_allclose(by_rest.measurements.correlation, found[0].measurements.correlation, atol=1e-3)
    return found, load(model).resolve(inputs, redshift), alone, whole


def test_sums_and_ratios_are_those_of_python(answers):
    found, expected = answers[:2]
    compared = 0
    for mine, other in zip(found, expected, strict=True):
        assert mine.joint_lines.correlated
        np.testing.assert_array_equal(mine.measurements.reported, other.measurements.reported)
        correlation = mine.measurements.correlation, other.measurements.correlation
        np.testing.assert_allclose(*correlation, atol=2e-3)
        for names in (("Halpha", "[NII]_6585", "[NII]_6550"), ("[OII]_3727", "[OII]_3730")):
            sums = mine.flux_of(*names), other.flux_of(*names)
            if np.isfinite(sums[1].value):
                width = sums[1].upper - sums[1].lower
                assert astuple(sums[0]) == pytest.approx(astuple(sums[1]), abs=0.02 * width)
                compared += 1
    assert compared


def test_classes_and_the_chance_of_no_redshift_are_served(answers):
    found, expected, alone, whole = answers
    for mine, other in zip(found, expected, strict=True):
        assert mine.redshift.none == pytest.approx(other.redshift.none, rel=1e-3)
        assert list(mine.class_probability) == list(OBJECT_CLASSES)
        assert mine.class_probability == pytest.approx(other.class_probability, rel=1e-3)
    for name in ("redshift_none", "class_probability", "redshift_confidence"):
        np.testing.assert_allclose(alone[name], whole[name], rtol=1e-3, atol=1e-5)
    assert whole["line_correlation"].shape[1] == whole["line_flux"].shape[1]


def test_broad_components_are_served(answers):
    found, expected = answers[:2]
    for mine, other in zip(found, expected, strict=True):
        mine, other = mine.measurements.broad, other.measurements.broad
        assert mine.probability == pytest.approx(other.probability, rel=1e-3, nan_ok=True)
        assert mine.fwhm == pytest.approx(other.fwhm, rel=1e-3, nan_ok=True)
        error = np.fmax(other.narrow_flux_error, 1e-24)
        for name in ("narrow_flux", "narrow_flux_error", "broad_flux", "broad_flux_error"):
            one, two = getattr(mine, name), getattr(other, name)
            np.testing.assert_array_equal(np.isnan(one), np.isnan(two))
            assert np.nanmax(np.abs(one - two) / error, initial=0.0) < 0.05, name


def test_its_results_are_files_with_covariances(answers, tmp_path):
    answers[0][0].write(tmp_path / "a.fits")
    assert Result.read(tmp_path / "a.fits").joint_lines.correlated
