"""A model on real files: redshifts, totals of lines beside gratings, invented lines, and no galaxies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.continuum_fits import known_redshifts, redshift_of
from data_pipeline.instrument import ANGSTROM_PER_UM
from data_pipeline.lines import load_lines
from data_pipeline.pixel_grid import pixel_bounds
from data_pipeline.readers import read_spectrum
from data_pipeline.spectrum import ObservedSpectrum, SpectrumError, SpectrumMeta
from kspecsr.enhancement.inputs import list_inputs
from kspecsr.evaluation.real_pairs import UNIT, PairFiles, read_pairs
from kspecsr.evaluation.report import NOTHING, text_table
from kspecsr.gratings.priors import NoJointLinesError
from kspecsr.measures.redshift import CONFIDENT
from kspecsr.methods.direct_fit import fit_prism_lines
from kspecsr.results.prism_input import prism_input, prism_wavelength
from kspecsr.results.result import Result
from kspecsr.super_resolver import SuperResolver

NEAR = 0.003  # of 1 + z: releases and gratings differ in zero point by up to 0.0007
_DETECTED = 5.0  # S/N of the direct fit at the known redshift: such a spectrum has lines
_WORTH = 10.0  # S/N of integrated fluxes that are compared
_OF_MEDIAN = 1.2533  # error of a median over that of a mean
_COVERED = 0.95  # of a window's pixels
_LEAST_PIXELS = 50  # good ones, of an arm
_PAIR_REDSHIFTS = {"194535": 1.7265, "187956": 3.702}


@dataclass(frozen=True)
class Total:
    """Lines that are added up, because gratings tell them apart no better where they are broad.

    Attributes:
        names: of the list.
        window: rest wavelengths [um] over which a grating is integrated.
        sides: of the continuum on either side.
    """

    names: tuple[str, ...]
    window: tuple[float, float]
    sides: tuple[tuple[float, float], tuple[float, float]]


TOTALS = {
    "Halpha + [N II]": Total(
        ("Halpha", "[NII]_6550", "[NII]_6585", "HeI_6680"), (0.643, 0.670), ((0.636, 0.642), (0.676, 0.684))
    ),
    "[O III]": Total(("[OIII]_4960", "[OIII]_5008"), (0.4935, 0.5045), ((0.4905, 0.4930), (0.5050, 0.5080))),
}


def integrated(spectrum: ObservedSpectrum, redshift: float, total: Total) -> tuple[float, float]:
    """Flux over a straight continuum, and its error [erg/s/cm2]; NaN where the spectrum does not cover it."""
    rest, good = spectrum.wavelength / (1.0 + redshift), ~spectrum.mask
    width = np.diff(pixel_bounds(spectrum.wavelength), axis=0)[0] * ANGSTROM_PER_UM
    sides = [(rest > low) & (rest < high) & good for low, high in total.sides]
    window = (rest > total.window[0]) & (rest < total.window[1])
    ends = rest[0] < total.window[0] and rest[-1] > total.window[1]
    if not ends or not all(side.any() for side in sides) or good[window].mean() < _COVERED:
        return float("nan"), float("nan")
    (x0, y0), (x1, y1) = ((rest[side].mean(), np.median(spectrum.flux[side])) for side in sides)
    use = window & good
    excess = spectrum.flux[use] - y0 - (y1 - y0) * (rest[use] - x0) / (x1 - x0)
    bridged = width[window].sum() / width[use].sum()
    below = [_OF_MEDIAN * np.sqrt(np.mean(spectrum.error[side] ** 2) / side.sum()) for side in sides]
    continuum = 0.5 * np.hypot(*below) * width[use].sum()
    error = np.hypot(np.sqrt(((spectrum.error * width)[use] ** 2).sum()), continuum)
    return float((excess * width[use]).sum() * bridged), float(error * bridged)


def line_sum(flux: np.ndarray, total: Total) -> float:
    """Sum of fluxes (K,) of those of the lines that the list has."""
    known = load_lines()
    return float(sum(flux[known.index(name)] for name in total.names if name in known.names))


def direct_lines(spectrum: ObservedSpectrum, redshift: float) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and S/N (K,) of the direct fit at the known redshift, on the spectrum's own pixels."""
    arrays = (spectrum.flux[None] / UNIT, spectrum.error[None] / UNIT, spectrum.mask[None])
    fit = fit_prism_lines(*arrays, np.array([redshift]), wavelength=spectrum.wavelength)
    with np.errstate(invalid="ignore", divide="ignore"):
        return fit.line_flux[0] * UNIT, np.nan_to_num(fit.line_flux[0] / fit.line_flux_error[0])


# ---- redshifts


def judge_prisms(resolver: SuperResolver, folder: Path, unread: list[str]) -> Iterator[str]:
    """Every prism spectrum of a tree whose redshift is known; lines of text."""
    tabulated = known_redshifts(folder)
    rows = [["prism", "known z", "z", "dz / (1 + z)", "Z_CONF", "has lines", "CHI2NU", "flags"]]
    right, sure, chi_square = [], [], []
    for given in list_inputs([str(folder)]):
        try:
            spectrum = read_spectrum(given.path)
            if spectrum.meta.disperser != "PRISM":
                continue
            known, result = redshift_of(spectrum, tabulated), resolver(spectrum)
        except (SpectrumError, OSError) as error:
            unread.append(str(error))
            continue
        z = result.redshift
        off = (z.value - known) / (1.0 + known)
        lines = np.isfinite(known) and bool((direct_lines(spectrum, known)[1] > _DETECTED).any())
        cells = [Path(given.path).name.split(".spec")[0][:58], _number(known, ".4f"), _number(z.value, ".4f")]
        cells += [_number(off, "+.4f"), f"{z.confidence:.2f}", "yes" if lines else "no"]
        rows.append([*cells, f"{result.chi_square:.2f}", ", ".join(result.flags) or NOTHING])
        if np.isfinite(known):
            right.append(abs(off) < NEAR)
            chi_square.append(result.chi_square)
            sure += [z.confidence > CONFIDENT] * lines
    yield text_table(rows)
    yield (
        f"{sum(right)} of {len(right)} within {NEAR} (1 + z); {sum(sure)} of {len(sure)} with a line of S/N "
        f"> {_DETECTED:g} are sure (Z_CONF > {CONFIDENT}); CHI2NU median {_median(chi_square)}"
    )


# ---- totals beside gratings


def judge_pairs(resolver: SuperResolver, table: Path, unread: list[str]) -> Iterator[str]:
    """Totals of pairs over what their gratings integrate to; lines of text."""
    ways = ("model", "direct fit", "prism, integrated")
    rows = [["prism", "lines", "gratings [1e-20]", *(f"{way} / gratings" for way in ways), "CHI2NU"]]
    found: dict[str, list] = {name: [] for name in TOTALS}
    chi_square = []
    for files in read_pairs(table):
        try:
            compared, result = _compare(resolver, files)
        except (ValueError, OSError) as error:
            unread.append(str(error))
            continue
        chi_square.append(result.chi_square)
        for name, (flux, error, ratios) in compared.items():
            found[name].append(ratios)
            cells = [files.prism.name.split(".")[0], name, f"{flux / UNIT:.0f} +- {error / UNIT:.0f}"]
            rows.append([*cells, *(f"{ratio:.2f}" for ratio in ratios), f"{result.chi_square:.2f}"])
    yield text_table(rows)
    for name, ratios in (*found.items(), ("both", [one for parts in found.values() for one in parts])):
        by_way = zip(ways, zip(*ratios, strict=True), strict=True) if ratios else ()
        texts = [f"{way} {_spread(values)}" for way, values in by_way]
        yield f"{name} over the gratings, n {len(ratios)}, median (16-84 %): {'; '.join(texts)}"
    yield f"CHI2NU median {_median(chi_square)} (n {len(chi_square)})"


def _compare(resolver: SuperResolver, files: PairFiles) -> tuple[dict, Result]:
    """Of each total: flux and error of the grating that knows it best, and three fluxes over it."""
    prism = read_spectrum(files.prism)
    gratings = [read_spectrum(path) for path in files.gratings]
    result = resolver(prism, keep_flagged=True)
    direct, compared = direct_lines(prism, files.redshift)[0], {}
    for name, total in TOTALS.items():
        measured = [integrated(one, files.redshift, total) for one in gratings]
        flux, error = max(measured, key=lambda pair: np.nan_to_num(pair[0] / pair[1]))
        if not flux > _WORTH * error:
            continue
        own = line_sum(result.measurements.flux, total), line_sum(direct, total)
        fluxes = (*own, integrated(prism, files.redshift, total)[0])
        compared[name] = flux, error, [value / flux for value in fluxes]
    return compared, result


# ---- single pairs, and what is no galaxy


def judge_single_pairs(resolver: SuperResolver, folder: Path) -> Iterator[str]:
    """``pair_gs_*.fits``: lines that are said to be there, and broad components; lines of text."""
    for path in sorted(folder.glob("pair_gs_*.fits")):
        with fits.open(path) as hdus:
            table = hdus["PAIR"].data
            wave = np.asarray(table["WAVELENGTH"], float)
            names = ("PRISM_FLUX", "PRISM_FLUX_ERR", "GRATING_FLUX", "GRATING_FLUX_ERR")
            flux, error, grating, grating_error = (np.asarray(table[name], float) for name in names)
        known = next((z for name, z in _PAIR_REDSHIFTS.items() if name in path.name), np.nan)
        # its prism was interpolated: back to one number per pixel of the prism
        pixels = prism_wavelength()
        inside = (pixels > wave[0]) & (pixels < wave[-1])
        meta = SpectrumMeta(disperser="PRISM", path=path.name)
        parts = [np.interp(pixels, wave, values) for values in (flux, error)]
        bad = ~inside | ~np.isfinite(parts).all(axis=0) | ~(parts[1] > 0)
        prism = ObservedSpectrum(pixels, np.where(bad, np.nan, parts[0]), parts[1], bad, meta)
        bad = ~np.isfinite(grating) | ~(grating_error > 0)
        sharp = ObservedSpectrum(wave, np.where(bad, np.nan, grating), grating_error, bad, meta)
        for told in (None, known):
            result = resolver(prism, told)
            z, there = result.redshift, result.measurements.detected
            said = ", ".join(np.array(load_lines().names)[there]) or "none"
            how = "redshift told" if told else "inferred"
            yield (
                f"{path.name}, {how}: z {z.value:.4f} (known {known:.4f}), "
                f"Z_CONF {z.confidence:.2f}, CHI2NU {result.chi_square:.1f}, flags "
                f"{', '.join(result.flags) or 'none'}; lines: {said}"
            )
            yield from _broad(resolver, prism, sharp, result, known, told)
        yield from _with_gratings(resolver, prism, sharp)


_ARMS = {"G140M": (0.7, 1.75), "G235M": (1.75, 2.95), "G395M": (2.95, 5.3)}  # of a stitched spectrum [um]


def _with_gratings(resolver, prism: ObservedSpectrum, sharp: ObservedSpectrum) -> Iterator[str]:
    """What the prism with its gratings says; nothing of a model that cannot join them."""
    arms = []
    for name, (low, high) in _ARMS.items():
        inside = (sharp.wavelength >= low) & (sharp.wavelength < high)
        if (inside & ~sharp.mask).sum() > _LEAST_PIXELS:
            parts = (values[inside] for values in (sharp.wavelength, sharp.flux, sharp.error, sharp.mask))
            arms.append(ObservedSpectrum(*parts, SpectrumMeta(disperser=name, path=sharp.meta.path)))
    try:
        result = resolver(prism, gratings=arms, keep_flagged=True)
    except NoJointLinesError:
        return
    there, broad = result.measurements.detected, result.measurements.broad
    text = f"  with its gratings: z {result.redshift.value:.4f}, flags {', '.join(result.flags) or 'none'}"
    if broad is not None:
        text += f"; P_BROAD {broad.probability:.3f}, FWHM {broad.fwhm:.0f} +- {broad.fwhm_error:.0f} km/s"
        part = broad.broad_flux[load_lines().index("Halpha")] / UNIT
        text += f", broad Halpha {part:.0f}"
    yield f"{text}; lines: {', '.join(result.measurements.line[there]) or 'none'}"


def _broad(resolver, prism, sharp, result, known, told) -> Iterator[str]:
    """Total and broad Halpha of the model beside the grating's."""
    flux, error = integrated(sharp, known, TOTALS["Halpha + [N II]"])
    if not flux > _WORTH * error:
        return
    total = line_sum(result.measurements.flux, TOTALS["Halpha + [N II]"])
    given = prism_input(prism)
    outputs = resolver.predict_arrays(given.flux[None], given.error[None], given.mask[None], told)
    text = f"  Halpha + [N II] over the grating's {flux / UNIT:.0f} +- {error / UNIT:.0f}: {total / flux:.2f}"
    if "broad_fwhm" in outputs:
        broad = outputs["line_broad_flux"][0, load_lines().index("Halpha")] / flux
        width, width_error = (float(outputs[name][0]) for name in ("broad_fwhm", "broad_fwhm_error"))
        chance = float(outputs["broad_probability"][0])
        text += f"; P_BROAD {chance:.2f}, FWHM {width:.0f} +- {width_error:.0f} km/s, broad part {broad:.2f}"
    yield text


def judge_others(resolver: SuperResolver, paths: Sequence[str], unread: list[str]) -> Iterator[str]:
    """Spectra that are no galaxy, or several; lines of text."""
    rows = [["spectrum", "z", "Z_CONF", "other modes", "class", "CHI2NU", "flags", "lines"]]
    for given in list_inputs(list(paths)):
        try:
            result = resolver(given.path)
        except (SpectrumError, OSError) as error:
            unread.append(str(error))
            continue
        z = result.redshift
        modes = ", ".join(f"{mode.redshift:.2f} ({mode.mass:.2f})" for mode in z.modes[1:4])
        cells = [Path(given.path).name, _number(z.value, ".3f"), f"{z.confidence:.2f}", modes or NOTHING]
        cells += [result.object_class or NOTHING, f"{result.chi_square:.1f}"]
        lines = result.measurements.detected.sum()
        rows.append([*cells, ", ".join(result.flags) or NOTHING, f"{lines}"])
    yield text_table(rows)


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else NOTHING


def _median(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f}" if len(values) else NOTHING


def _spread(values: Sequence[float]) -> str:
    values = np.array(values, float)[np.isfinite(values)]
    if not values.size:
        return NOTHING
    low, middle, high = np.percentile(values, (16, 50, 84))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
