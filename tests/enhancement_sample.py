"""A stand-in for the trained networks, and prism spectra to feed it.

It draws three known lines at a known redshift on the interpolated prism, with the composed model's names and
shapes, in milliseconds.
"""

import json

import numpy as np

from data_pipeline.configuration import to_dict
from data_pipeline.instrument import load_instrument
from data_pipeline.lines import load_lines
from data_pipeline.lines.design import DENSITY_DOUBLETS, tied_lines
from data_pipeline.lines.profile import line_sigma, pixel_mean
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta
from kspecsr.configuration import PRESETS
from kspecsr.results.data import ModelIdentity
from kspecsr.results.prism_input import degraded_to_prism, prism_chi_square, prism_wavelength

REDSHIFT = 3.235
LINE_FLUX = {"[OII]_3730": 8e-19, "[OIII]_5008": 3e-18, "Halpha": 2e-18}
CONTINUUM, ERROR = 2e-21, 4e-22
GRID = UnifiedGrid()
BINS = np.arange(4150) * 2 / 3000
IDENTITY = ModelIdentity("stand-in", "ab" * 32, GRID, {"kspecsr": "0.1.0"})


def sharp_lines(redshift, wavelength=None):
    """Lines of `LINE_FLUX` at R = 1000 on the unified grid [erg/s/cm2/A]."""
    wavelength = GRID.wavelength if wavelength is None else wavelength
    lines, flux = load_lines(), np.zeros(wavelength.size)
    for name, total in LINE_FLUX.items():
        centre = lines.wavelength[lines.index(name)] * (1 + redshift)
        width = centre / 1000 / 2.3548
        profile = np.exp(-0.5 * ((wavelength - centre) / width) ** 2) / (width * 1e4 * np.sqrt(2 * np.pi))
        flux += total * profile
    return flux


class StandIn:
    """The composed model's contract, one row at a time.

    Args:
        redshift: that it always infers.
        width: of P(z) in ln(1 + z).
    """

    def __init__(self, redshift=REDSHIFT, width=0.001):
        self.redshift, self.width, self.sizes = redshift, width, []

    def __call__(self, batch):
        rows = range(batch["prism_flux"].shape[0])
        assert all(v.dtype == np.float32 for k, v in batch.items() if k != "prism_mask")
        self.sizes.append(len(rows))
        outputs = [self.row({k: v[row] for k, v in batch.items()}) for row in rows]
        return {name: np.stack([o[name] for o in outputs]) for name in outputs[0]}

    def row(self, one):
        given = np.isfinite(one["redshift"])
        z = float(one["redshift"]) if given else self.redshift
        lines, grid = load_lines(), GRID.wavelength
        good = ~one["prism_mask"]
        smooth = np.zeros(grid.size) if not good.any() else np.full(grid.size, CONTINUUM)
        flux = smooth + sharp_lines(z)
        centre = lines.wavelength * (1 + z)
        line_flux = np.array([LINE_FLUX.get(name, 0.0) for name in lines.names])
        probability = np.exp(-0.5 * ((BINS - np.log1p(self.redshift)) / self.width) ** 2) + 1e-12
        model = np.nan_to_num(degraded_to_prism(flux, GRID))
        return {
            "sr1_flux": smooth,
            "sr1_error": np.full(grid.size, 2 * ERROR),
            "flux": flux,
            "flux_error": np.full(grid.size, ERROR),
            "continuum": smooth,
            "redshift": z,
            "redshift_error": 0.0 if given else self.width * (1 + z),
            "redshift_probability": probability / probability.sum(),
            "line_flux": line_flux,
            "line_flux_error": np.full(len(lines), 2e-20),
            "line_wavelength": centre,
            "line_fwhm": centre / 1000,
            "line_presence": (line_flux > 0) * 0.99,
            "line_equivalent_width": line_flux / CONTINUUM / (1 + z),
            "line_in_range": (centre > GRID.start) & (centre < GRID.stop),
            "line_prior_weight": np.full(len(lines), 0.1),
            "chi_square": prism_chi_square(
                one["prism_flux"], one["prism_error"], one["prism_mask"], degraded_to_prism(flux, GRID)
            ),
            "prism_model": model,
        }


class SecondStandIn(StandIn):
    """With what a model of the preset `second` puts out besides.

    Neighbouring lines are anti-correlated; a quarter of Halpha is broad.
    """

    def row(self, one):
        place = np.log(load_lines().wavelength)
        sign = (-1.0) ** np.argsort(np.argsort(place))
        near = np.exp(-0.5 * ((place[:, None] - place) / 0.005) ** 2)
        known = super().row(one)
        flux, error = known["line_flux"], known["line_flux_error"]
        broad = (np.array(load_lines().names) == "Halpha") * 1.0
        return {
            **known,
            "line_narrow_flux": flux * (1 - 0.25 * broad),
            "line_narrow_flux_error": error,
            "line_broad_flux": flux * 0.25 * broad,
            "line_broad_flux_error": 2 * error * broad,
            "broad_probability": 0.9,
            "broad_fwhm": 3000.0,
            "broad_fwhm_error": 400.0,
            "line_correlation": 0.95 * sign[:, None] * sign * near + 0.05 * np.eye(place.size),
            "redshift_none": 0.25,
            "class_probability": np.array([0.1, 0.2, 0.4, 0.25, 0.05]),
            "fit_probability": 0.5,
        }


def prism_spectrum(seed=1, redshift=REDSHIFT, noise=1.0, **meta):
    """What the prism sees of the stand-in's galaxy, with noise."""
    wavelength = prism_wavelength()
    truth = degraded_to_prism(CONTINUUM + sharp_lines(redshift), GRID)
    truth = np.where(np.isfinite(truth), truth, CONTINUUM)
    error = np.full(wavelength.size, ERROR)
    flux = truth + noise * error * np.random.default_rng(seed).standard_normal(wavelength.size)
    meta = {"disperser": "PRISM", "filter": "CLEAR", "target": "goods-s_1234", "source_id": "1234", **meta}
    return ObservedSpectrum(wavelength, flux, error, np.zeros(wavelength.size, bool), SpectrumMeta(**meta))


def write_stand_in_folder(folder, preset="first"):
    """A model folder whose settings and hashes can be read, but not its networks."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"name": "stand-in", "preset": to_dict(PRESETS[preset]), "stages": {}, "software": {}}
    (folder / "model.json").write_text(json.dumps(content))
    for stage in ("sr1", "zhead", "sr2"):
        (folder / f"{stage}.keras").write_bytes(stage.encode())
    return folder


class JointStandIn(StandIn):
    """The same with joint line errors: lines are known to a tenth, and to ``error`` where they are faint."""

    def __init__(self, error=1e-19, **options):
        super().__init__(**options)
        self.error = error

    def row(self, one):
        found = super().row(one)
        error = np.hypot(self.error, 0.1 * found["line_flux"])
        return found | {"line_flux_error": error, "line_correlation": tied_correlation()}


class BroadStandIn(JointStandIn):
    """The same, which thinks that a tenth of Halpha may be broad."""

    def row(self, one):
        found = super().row(one)
        halpha = (np.array(load_lines().names) == "Halpha") * 1.0
        flux, error = found["line_flux"], found["line_flux_error"]
        return found | {
            "line_narrow_flux": flux * (1 - 0.1 * halpha),
            "line_narrow_flux_error": error,
            "line_broad_flux": 0.1 * flux * halpha,
            "line_broad_flux_error": error * halpha,
            "broad_probability": 0.2,
            "broad_fwhm": 2500.0,
            "broad_fwhm_error": 1000.0,
        }


def tied_correlation():
    """(K, K): the lines of a doublet with a fixed ratio are one, all others independent."""
    share = tied_lines(load_lines(), DENSITY_DOUBLETS).matrix(len(load_lines()))
    return np.sign(share) @ np.sign(share).T


def grating_spectrum(
    name="nirspec-g235m", seed=2, redshift=REDSHIFT, scale=1.13, error=1e-21, broad=(0.0, 2000.0), **meta
):
    """What a medium grating sees of the stand-in's galaxy, with noise; ``scale`` is prism over grating.

    ``broad`` is the share of Halpha that is broad, and its full width at half maximum [km/s].
    """
    instrument, lines = load_instrument(name), load_lines()
    wavelength, (lower, upper) = instrument.wavelength, instrument.bounds
    flux = np.full(wavelength.size, CONTINUUM)
    whole = dict(LINE_FLUX)  # with the weaker lines of doublets, which the stand-in leaves out
    whole |= {"[OIII]_4960": whole["[OIII]_5008"] / 2.984}
    for line, total in whole.items():
        centre = lines.wavelength[lines.index(line)] * (1 + redshift)
        share = broad[0] if line == "Halpha" else 0.0
        for part, width in ((1.0 - share, 70.0), (share, broad[1] / 2.3548)):
            sigma = line_sigma(instrument, centre, width)
            flux = flux + part * total * pixel_mean(lower, upper, centre, sigma) / 1e4
    noise = error * np.random.default_rng(seed).standard_normal(wavelength.size)
    meta = {"disperser": instrument.disperser, "path": f"{name}.fits", "sha256": name.ljust(64, "0"), **meta}
    sigma, mask = np.full(wavelength.size, error), np.zeros(wavelength.size, bool)
    return ObservedSpectrum(wavelength, flux / scale + noise, sigma, mask, SpectrumMeta(**meta))
