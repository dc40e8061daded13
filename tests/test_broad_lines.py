"""Broad components as columns beside the narrow lines."""

import numpy as np
import pytest

from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.profile import render_lines
from kspecsr.layers.broad_lines import BroadLineInformation, broad_fluxes
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.line_posterior import free_fluxes
from kspecsr.layers.lines import LinePositions
from kspecsr.layers.prism_channels import PrismNormalisation
from model_sample import FULL, numpy_dict

LINES = load_lines()
REDSHIFT, VELOCITY = 4.0, 1700.0  # km/s, FWHM 4,000


def test_broad_lines_are_those_of_permitted_transitions():
    tie = broad_fluxes()
    broad = {LINES.names[k] for k in np.flatnonzero(tie.any(axis=1))}
    assert {"Halpha", "Hbeta", "Paalpha", "HeI_10833", "MgII_2796", "MgII_2803", "CIV_1551"} <= broad
    assert not any(name.startswith("[") or "]" in name for name in broad)
    mg = tie[:, tie[LINES.index("MgII_2796")] > 0][:, 0]
    assert mg[LINES.index("MgII_2803")] == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_broad_and_narrow_flux_of_one_line_are_told_apart(share):
    """The most likely fluxes of a noise-free spectrum, from precision and score."""
    instrument = load_instrument(PRISM)
    names, flux = ["Hbeta", "Halpha"], np.array([400.0, 1200.0])
    centre = np.tile(LINES.wavelength[[LINES.index(name) for name in names]] * (1.0 + REDSHIFT), 2)
    parts = np.concatenate([(1.0 - share) * flux, share * flux])
    width = np.array([0.0, 0.0, VELOCITY, VELOCITY])
    spectrum = 1.0 + render_lines(instrument, centre, parts, width, rows=1)
    error = np.full(spectrum.shape, 0.05, "float32")
    prism = PrismNormalisation()(spectrum.astype("float32"), error, np.zeros(spectrum.shape, bool))
    arrays = [prism[name] for name in ("flux", "error", "good", "amplitude")]
    z = np.array([REDSHIFT], "float32")
    at = LinePositions(FULL)(z)
    places = [at[name] for name in ("wavelength", "prism_sigma")]
    fit = DirectLineFit(30)(*arrays, *places, at["in_range"], z)
    information = BroadLineInformation(30)(
        *arrays,
        fit["flux"],
        fit["model"],
        *places,
        at["in_range"],
        z,
        0.0 * z,
        np.array([VELOCITY], "float32"),
    )
    found = {name: value[0].astype(float) for name, value in numpy_dict(information).items()}
    size = found["score"].size
    assert size == free_fluxes()[0].shape[1] + broad_fluxes().shape[1]
    # a weak prior of 100 isolated errors: lines that are not there cannot be told from each other
    change = np.linalg.solve(found["precision"] + 1e-4 * np.eye(size), found["score"] - 1e-4 * found["start"])
    free = (found["start"] + change) * found["unit"] * float(np.asarray(prism["scale"])[0, 0])
    _, leader = free_fluxes()
    for name, total in zip(names, flux, strict=True):
        narrow = free[np.flatnonzero(leader == LINES.index(name))[0]]
        broad = free[leader.size + broad_fluxes()[LINES.index(name)].argmax()]
        assert narrow == pytest.approx((1.0 - share) * total, abs=0.08 * total), name
        assert broad == pytest.approx(share * total, abs=0.08 * total), name
