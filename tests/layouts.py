"""Small files in the layouts of the archives, written with astropy from physical arrays.

Each function takes wavelength [um], flux and error [erg/s/cm2/A] and mask, writes bad pixels as its archive
does, and converts units by explicit formulas, so that the readers are compared with something other than
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

SPEED_OF_LIGHT = 2.99792458e18  # Angstrom/s
JADES_UNIT = "erg s-1 cm-2 AA-1"


def f_nu(wavelength: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """erg/s/cm2/A to Jy."""
    return flux * (wavelength * 1e4) ** 2 / SPEED_OF_LIGHT * 1e23


def nan_where(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(mask, np.nan, values)


def table(columns: list[tuple], name: str | None = None, **cards) -> fits.BinTableHDU:
    """Table from (name, FITS format, unit, values); `cards` go to its header."""
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(column, kind, array=values) for column, kind, _, values in columns], name=name
    )
    for number, (_, _, unit, _) in enumerate(columns, start=1):
        if unit is not None:  # set by hand: astropy would warn about non-standard units
            hdu.header[f"TUNIT{number}"] = unit
    hdu.header.update(cards)
    return hdu


def write(path: Path, primary: dict, *hdus) -> None:
    head = fits.PrimaryHDU()
    head.header.update(primary)
    fits.HDUList([head, *hdus]).writeto(path, overwrite=True)


JADES_PRIMARY = {
    "RA": 189.1,
    "DEC": 62.2,
    "TARGET": "00003991",
    "XPOSURE": 24509.3,
    "HLSPID": "JADES",
    "HLSPTARG": "GOODS-North-Medium",
    "HLSPTIER": "medium_hst_gn",
    "PROPOSID": 1181,
    "FILTER": "CLEAR",
    "GRATING": "PRISM",
    "TELESCOP": "JWST",
}


def jades_columns(wavelength, flux, error, mask) -> list[tuple]:
    return [
        ("WAVELENGTH", "D", "um", wavelength),
        ("FLUX", "D", JADES_UNIT, nan_where(mask, flux)),
        ("FLUX_ERR", "D", JADES_UNIT, nan_where(mask, error)),
    ]


def jades_dr3(path, wavelength, flux, error, mask):
    empty = fits.BinTableHDU(name="ASDF")
    write(path, JADES_PRIMARY, table(jades_columns(wavelength, flux, error, mask), "EXTRACT1D"), empty)


def jades_dr4(path, wavelength, flux, error, mask):
    """The 3-pixel extraction holds the spectrum, the 5-pixel one twice the flux; NaN in FLUX_ERR only."""
    hdus = []
    for name, factor in (("EXTRACT5PIX1D", 2.0), ("EXTRACT3PIX1D", 1.0)):
        columns = [
            ("WAVELENGTH", "D", "um", wavelength),
            ("FLUX", "D", JADES_UNIT, factor * flux),
            ("FLUX_ERR", "D", JADES_UNIT, nan_where(mask, factor * error)),
            ("FLUX_NOD2", "D", JADES_UNIT, 3 * factor * flux),
            ("FLUX_ERR_NOD2", "D", JADES_UNIT, 3 * factor * error),
        ]
        hdus.append(table(columns, name, SOURCEID="00003991"))
    write(path, JADES_PRIMARY, *hdus, fits.ImageHDU(np.zeros((8, 8), np.float32), name="F444W"))


def gto_images(values: dict[str, np.ndarray]) -> list:
    return [fits.ImageHDU(array, name=name) for name, array in values.items()]


GTO_PRIMARY = {
    "TELESCOP": "JWST",
    "SYSTEM": "ESA-PIPELINE",
    "FILETYPE": "R1D",
    "FWA_POS": "CLEAR",
    "GWA_POS": "PRISM",
    "UNIT": "m-3 W",
}


def gto_v5(path, wavelength, flux, error, mask):
    """1 erg/s/cm2/A is 1e7 W/m3. EXTR3 holds the spectrum, DATA twice the flux."""
    legend = table(
        [("VALUE", "K", None, np.array([4])), ("DESCRIPTION", "30A", None, ["Hot pixel"])], "DQFLAGS"
    )
    si_flux, si_error = nan_where(mask, flux) * 1e7, nan_where(mask, error) * 1e7
    images = gto_images(
        {
            "DATA": 2 * si_flux,
            "ERR": 2 * si_error,
            "DIRTY_DATA": si_flux,
            "EXTR3": si_flux,
            "EXTR3ERR": si_error,
        }
    )
    wave = fits.ImageHDU(wavelength * 1e-6, name="WAVELENGTH")
    wave.header["BUNIT"] = "meter"
    write(path, GTO_PRIMARY, *images, legend, wave)


def gto_v3(path, wavelength, flux, error, mask):
    """Five pixels only; bad pixels flagged in DIRTY_QUALITY."""
    images = gto_images(
        {
            "DATA": flux * 1e7,
            "ERR": error * 1e7,
            "DIRTY_DATA": flux * 1e7,
            "DIRTY_QUALITY": np.where(mask, 4, 0).astype(np.uint16),
        }
    )
    wave = fits.ImageHDU(wavelength * 1e-6, name="WAVELENGTH")
    wave.header["BUNIT"] = "meter"
    write(path, GTO_PRIMARY, *images, wave)


DJA_CARDS = {
    "SRCNAME": "1181_39353",
    "SOURCEID": 39353,
    "SRCRA": 189.3,
    "SRCDEC": 62.15,
    "GRATING": "PRISM",
    "FILTER": "CLEAR",
    "PROGRAM": "01181",
    "EFFEXPTM": 1021.2,
    "TARGNAME": "GOODS-North",
}


def dja_columns(wavelength, flux, error) -> list[tuple]:
    return [
        ("wave", "D", "um", wavelength),
        ("flux", "D", "uJy", f_nu(wavelength, flux) * 1e6),
        ("err", "D", "uJy", f_nu(wavelength, error) * 1e6),
    ]


def dja_v1(path, wavelength, flux, error, mask):
    """Three columns; bad pixels have flux = err = 0."""
    columns = dja_columns(wavelength, np.where(mask, 0, flux), np.where(mask, 0, error))
    write(path, {}, table(columns, "SPEC1D", **DJA_CARDS))


def dja_v4(path, wavelength, flux, error, mask):
    """Nine columns; bad pixels are NaN."""
    columns = dja_columns(wavelength, nan_where(mask, flux), nan_where(mask, error))
    columns += [(name, "D", None, np.ones(wavelength.size)) for name in ("sky", "path_corr", "npix")]
    write(path, {}, table(columns, "SPEC1D", **DJA_CARDS), fits.ImageHDU(np.zeros((31, 4)), name="SCI"))


STSCI_PRIMARY = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRSPEC",
    "FILTER": "F290LP",
    "GRATING": "G395M",
    "PROGRAM": "02736",
    "TARG_RA": 110.8,
    "TARG_DEC": -73.4,
    "EFFEXPTM": 8753.3,
}


def pipeline_columns(wavelength, flux, error, flags) -> list[tuple]:
    return [
        ("WAVELENGTH", "D", "um", wavelength),
        ("FLUX", "D", "Jy", f_nu(wavelength, flux)),
        ("FLUX_ERROR", "D", "Jy", f_nu(wavelength, error)),
        ("SURF_BRIGHT", "D", "MJy/sr", np.ones(wavelength.size)),
        ("SB_ERROR", "D", "MJy/sr", np.ones(wavelength.size)),
        ("DQ", "J", None, flags),
    ]


def stsci(path, wavelength, flux, error, mask):
    """DQ 1 is DO_NOT_USE; DQ 4 (jump detected) is no reason to drop a pixel."""
    flags = np.where(mask, 1 + 512, 4).astype(np.int32)
    hdu = table(
        pipeline_columns(wavelength, flux, error, flags),
        "EXTRACT1D",
        SOURCEID=6355,
        SRCNAME="2736_6355",
        SRCRA=110.84,
        SRCDEC=-73.43,
    )
    write(path, STSCI_PRIMARY, hdu, fits.BinTableHDU(name="ASDF"))


def ceers(path, wavelength, flux, error, mask):
    """The pipeline's table without EXTNAME; bad pixels are NaN."""
    columns = pipeline_columns(
        wavelength, nan_where(mask, flux), nan_where(mask, error), np.zeros(mask.size, np.int32)
    )
    columns.append(("FLUX_VAR_POISSON", "D", "Jy2", np.ones(mask.size)))
    write(
        path, {"TELESCOP": "JWST", "HLSPID": "CEERS", "FILTER": "F100LP", "GRATING": "G140M"}, table(columns)
    )


def euclid(path, wavelength, flux, error, mask):
    """VAR in SIGNAL units squared; odd MASK and 64 and more are bad, 2 is good."""
    scale = 1e-16
    bad = np.where(np.arange(mask.size) % 2 == 0, 1, 64)
    columns = [
        ("WAVELENGTH", "D", "Angstrom", wavelength * 1e4),
        ("SIGNAL", "D", "erg/s/cm2/Angstrom", flux / scale),
        ("MASK", "J", "Number", np.where(mask, bad, 2).astype(np.int32)),
        ("QUALITY", "D", "Number", np.ones(mask.size)),
        ("VAR", "D", "erg2/s2/cm4/Angstrom2", (error / scale) ** 2),
    ]
    cards = {"SOURC_ID": -519109067279208788, "FSCALE": scale, "EXPTIME": 2198.5}
    write(path, {}, table(columns, "-519109067279208788", **cards))


@dataclass(frozen=True)
class Layout:
    """An emitter, the file name that its archive would give, and what the reader should make of it."""

    emit: Callable
    file_name: str
    format: str
    disperser: str
    source_id: str


LAYOUTS = {
    "jades-dr3": Layout(
        jades_dr3,
        "hlsp_jades_jwst_nirspec_goods-n-mediumhst-00003991_clear-prism_v1.0_x1d.fits",
        "jades-dr3",
        "PRISM",
        "3991",
    ),
    "jades-dr4": Layout(
        jades_dr4,
        "hlsp_jades_jwst_nirspec_goods-n-mediumjwst-00003991_clear-prism_v1.0_x1d.fits",
        "jades-dr4",
        "PRISM",
        "3991",
    ),
    "gto-v5": Layout(gto_v5, "003991_prism_clear_v5.1_1D.fits", "gto", "PRISM", "3991"),
    "gto-v3": Layout(gto_v3, "003991_prism_clear_v3.1_1D.fits", "gto", "PRISM", "3991"),
    "dja-v1": Layout(dja_v1, "jades-gdn-v1_prism-clear_1181_39353.spec.fits", "dja", "PRISM", "39353"),
    "dja-v4": Layout(dja_v4, "jades-gdn-v4_prism-clear_1181_39353.spec.fits", "dja", "PRISM", "39353"),
    "stsci": Layout(stsci, "jw02736-o007_s06355_nirspec_f290lp-g395m_x1d.fits", "stsci-x1d", "G395M", "6355"),
    "ceers": Layout(
        ceers, "hlsp_ceers_jwst_nirspec_nirspec4-001149_g140m_dr0.7_x1d.fits", "ceers", "G140M", "1149"
    ),
    "euclid": Layout(euclid, "-519109067279208788.fits", "euclid-sir", "RGS", "-519109067279208788"),
}


def example(pixels: int = 50, seed: int = 1):
    """Wavelength, flux, error and mask of a plain spectrum with a tenth of its pixels bad."""
    generator = np.random.default_rng(seed)
    wavelength = np.linspace(0.6, 5.3, pixels)
    error = 10 ** generator.uniform(-21.5, -20.5, pixels)
    flux = 1e-20 + error * generator.standard_normal(pixels)
    return wavelength, flux, error, np.arange(pixels) % 10 == 3
