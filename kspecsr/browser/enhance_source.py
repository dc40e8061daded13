"""Results of ``python -m kspecsr.enhance``: a folder of ``*_sr.fits``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.io import fits

from data_pipeline.spectrum import FLUX_UNIT, ObservedSpectrum, SpectrumMeta
from kspecsr.browser.source import BrowseError
from kspecsr.browser.view import TABLE_COLUMNS, SpectrumView
from kspecsr.enhancement.known_redshifts import KnownRedshifts
from kspecsr.enhancement.result_table import SUFFIX, read_row, result_files
from kspecsr.flags import detection
from kspecsr.line_measurements import LIKELY, LIMIT_SIGMA


class EnhanceSource:
    """Result files; their headers and line tables are read at the start, the rest on demand.

    Args:
        path: folder, or one file.
        progress: of what it iterates over, such as tqdm.

    Raises:
        BrowseError: for a folder without a readable result.
    """

    def __init__(self, path: Path, progress: Callable[[Iterable], Iterable] = iter):
        self.title = f"results in {path.resolve().name}"
        rows, self._files, self.unread = [], [], []
        for file in progress(result_files([path])):
            try:
                rows.append(_table_row(file))
            except (ValueError, OSError, KeyError) as error:
                self.unread.append(f"{file}: {error}")
                continue
            self._files.append(file)
        if not rows:
            raise BrowseError(f"{path}: no readable result: {'; '.join(self.unread[:3])}")
        self.table = pd.DataFrame(rows, columns=list(TABLE_COLUMNS))

    def file(self, row: int) -> Path:
        """The result file of a row."""
        return self._files[row]

    def view(self, row: int) -> SpectrumView:
        """See `ResultSource`."""
        one = self.table.iloc[row]
        with fits.open(self._files[row]) as hdus:
            spectrum, pz = _columns(hdus["SPEC1D"]), _columns(hdus["PZ"])
            lines, given = _columns(hdus["LINES"]), _columns(hdus["INPUT"])
            unit, given_unit = _flux_unit(hdus["SPEC1D"]), _flux_unit(hdus["INPUT"])
        sharp, prism = spectrum["WAVELENGTH"], given["WAVELENGTH"]
        table = pd.DataFrame(
            {
                "line": [str(name).strip() for name in lines["NAME"]],
                "wave_rest": lines["WAVE_REST"],
                "wave_obs": lines["WAVE_OBS"],
                "flux": lines["FLUX"],
                "flux_error": lines["FLUX_ERR"],
                "snr": lines["SNR"],
                "presence": lines["PRESENCE"],
                "prior_weight": lines["PRIOR_WEIGHT"],
            }
        )
        return SpectrumView(
            name=str(one["object_id"]),
            z=float(one["z"]),
            z_error=0.0 if one["z_given"] else float(one["z_error"]),
            confidence=float(one["z_confidence"]),
            given=bool(one["z_given"]),
            flags=str(one["flags"]),
            chi_square=float(one["chi_square"]),
            prism_wavelength=prism,
            prism_flux=np.where(given["MASK"], np.nan, _density(given["FLUX"], given_unit, prism)),
            prism_error=_density(given["FLUX_ERR"], given_unit, prism),
            wavelength=sharp,
            flux=_density(spectrum["FLUX"], unit, sharp),
            flux_error=_density(spectrum["FLUX_ERR"], unit, sharp),
            pz_z=pz["Z"],
            pz=pz["PDF"],
            lines=table[lines["IN_RANGE"] & np.isfinite(lines["FLUX"])].reset_index(drop=True),
        )

    def observed(self, row: int) -> tuple[ObservedSpectrum, float]:
        """See `ResultSource`; out of the result file, which holds its input."""
        one = self.table.iloc[row]
        with fits.open(self._files[row]) as hdus:
            header, given, unit = hdus[0].header, _columns(hdus["INPUT"]), _flux_unit(hdus["INPUT"])
            meta = SpectrumMeta(
                target=str(header.get("TARGET", "")),
                source_id=str(header.get("SOURCEID", "")),
                tier=str(header.get("TIER", "")),
                ra=float(header.get("RA", math.nan)),
                dec=float(header.get("DEC", math.nan)),
                path=str(header.get("INPUT", "")),
            )
        observed = ObservedSpectrum.from_quantities(
            u.Quantity(given["WAVELENGTH"], u.um),
            u.Quantity(given["FLUX"], unit),
            u.Quantity(given["FLUX_ERR"], unit),
            given["MASK"],
            meta,
        )
        return observed, float(one["z"]) if one["z_given"] else math.nan


def _table_row(path: Path) -> dict:
    row = read_row(path, KnownRedshifts())
    with fits.open(path) as hdus:
        given, lines = _columns(hdus["INPUT"]), _columns(hdus["LINES"])
    mask = given["MASK"] | ~np.isfinite(given["FLUX"]) | ~(given["FLUX_ERR"] > 0)
    _, feature = detection(given["FLUX"], given["FLUX_ERR"], mask)
    sure = (np.nan_to_num(lines["SNR"]) > LIMIT_SIGMA) & (np.nan_to_num(lines["PRESENCE"]) > LIKELY)
    return {
        "object_id": path.name.removesuffix(SUFFIX),
        "z": row.redshift,
        "z_error": row.error,
        "z_confidence": row.confidence,
        "z_given": row.given,
        "sn_pixel": float(np.median(given["FLUX"][~mask] / given["FLUX_ERR"][~mask]))
        if (~mask).any()
        else 0.0,
        "sn_feature": feature,
        "chi_square": row.chi_square,
        "lines_detected": int(sure.sum()),
        "brightest_line": row.line,
        "brightest_snr": row.flux / row.flux_error,
        "flags": row.flags,
    }


def _columns(hdu: fits.BinTableHDU) -> dict[str, np.ndarray]:
    """Columns in the machine's byte order: FITS has the other one."""
    found = {}
    for name in hdu.columns.names:
        values = np.asarray(hdu.data[name])
        found[name] = values.astype(np.float64) if values.dtype.kind == "f" else np.array(values)
    return found


def _flux_unit(hdu: fits.BinTableHDU) -> u.UnitBase:
    return u.Unit(hdu.columns["FLUX"].unit)


def _density(values: np.ndarray, unit: u.UnitBase, wavelength: np.ndarray) -> np.ndarray:
    """In erg/s/cm2/A."""
    if unit.is_equivalent(FLUX_UNIT):
        return values * unit.to(FLUX_UNIT)
    return (values * unit).to_value(FLUX_UNIT, u.spectral_density(wavelength * u.um))
