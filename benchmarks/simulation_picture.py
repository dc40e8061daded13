"""Picture of a simulation beside JADES."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from benchmarks.continuum_check import samples, table
from benchmarks.galaxy_check import compare_galaxies
from benchmarks.simulation_check import (
    AUTOCORRELATION,
    CONTINUUM_SN,
    DETECTED_FRACTIONS,
    PRISM_ERRORS,
    RESOLUTION,
    compare,
    ratio_percentiles,
    report,
)
from benchmarks.simulation_measurements import BANDS, LAGS, Measurements, measure_simulation
from data_pipeline.pictures.style import WAVELENGTH_LABEL, flux_label, leave_headroom, save_picture, styled
from data_pipeline.simulation import SimulationConfig
from data_pipeline.tables import read_table
from data_pipeline.writers.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REAL, _SIMULATED = "black", "tab:orange"
_LABELS = {
    "HBaA_6563": "Hα",
    "O3_5007": "[O III]",
    "HBaB_4861": "Hβ",
    "O2_3727": "[O II]",
    "N2_6584": "[N II]",
    "O3_4363": "[O III]4363",
    "Ne3_3869": "[Ne III]",
}


@styled
def draw_simulation_check(measured: Measurements) -> Figure:
    """Draws redshifts, detections, prism noise and S/N, resolution and line ratios, real and simulated.

    Args:
        measured: from `benchmarks.simulation_measurements.measure_simulation`.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(11.0, 12.5), layout="constrained")
    axes = figure.subplots(4, 3).ravel()
    _draw_redshifts(axes[0], measured)
    _draw_detections(axes[1], measured)
    _draw_errors(axes[2], measured)
    _draw_signal(axes[3], measured)
    _draw_autocorrelation(axes[4], measured)
    _draw_resolution(axes[5], measured)
    ratios = sorted(set(map(str, read_table("jades_line_ratios.ecsv")["ratio"])))
    for axis, ratio in zip(axes[6:], ratios, strict=True):
        _draw_ratio(axis, measured, ratio)
    figure.suptitle(
        f"Simulation ({measured.redshift.size} observations, {int(measured.secure.sum())} of them with "
        "flags A, B, C) beside JADES DR4; bars span 16-84 %\n"
        "line ratios: dots are medians, dashes 16 and 84 %; numerators below 3 σ are non-detections, and "
        "arrows point where these hide the other marks"
    )
    return figure


def _finish(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend()


def _draw_redshifts(axis: Axes, measured: Measurements) -> None:
    table = read_table("jades_redshifts.ecsv")
    edges = np.append(table["z_lo"], table["z_hi"][-1])
    width = np.diff(edges)
    z = measured.redshift[measured.secure]
    simulated = np.histogram(z, edges)[0] / z.size / width
    axis.stairs(table["count"] / table["count"].sum() / width, edges, color=_REAL, label="JADES DR4")
    axis.stairs(simulated, edges, color=_SIMULATED, fill=True, alpha=0.5, label="simulated")
    axis.set_xlim(0, 11)
    _finish(axis, "Redshift, flags A, B, C", "z", "share per unit z")


def _draw_detections(axis: Axes, measured: Measurements) -> None:
    names, real, simulated = [], [], []
    for name, limit, share in DETECTED_FRACTIONS:
        flux, error = measured.line(name)
        seen = measured.secure & np.isfinite(flux)
        names.append(f"{_LABELS[name]} >{limit:g}")
        real.append(share)
        simulated.append(np.mean((flux / error)[seen] > limit))
    place = np.arange(len(names))
    axis.barh(place - 0.2, real, 0.38, color=_REAL, label="JADES DR4")
    axis.barh(place + 0.2, simulated, 0.38, color=_SIMULATED, label="simulated")
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    _finish(axis, "Lines above an S/N limit in the gratings", "share of galaxies", "")


def _bars(
    axis: Axes, x: np.ndarray, percentiles: np.ndarray, color: str, label: str, marker: str = "o"
) -> None:
    low, middle, high = percentiles
    axis.errorbar(
        x,
        middle,
        [middle - low, high - middle],
        color=color,
        label=label,
        marker=marker,
        ls="none",
        capsize=3,
    )


def _draw_errors(axis: Axes, measured: Measurements) -> None:
    centre = np.array([np.mean(band) for band in BANDS])
    _bars(axis, centre - 0.03, np.array(PRISM_ERRORS).T, _REAL, "24 JADES galaxies")
    simulated = np.nanpercentile(measured.prism_error, (16, 50, 84), axis=0) * 1e21
    _bars(axis, centre + 0.03, simulated, _SIMULATED, "simulated", "s")
    axis.set_yscale("log")
    label = flux_label(-21).replace("Flux density", "Flux density error")
    _finish(axis, "Quoted prism error per pixel", WAVELENGTH_LABEL, label)


def _draw_signal(axis: Axes, measured: Measurements) -> None:
    centre = np.array([np.mean(band) for band in BANDS])
    for band, (low, high) in CONTINUUM_SN.items():
        label = "range of JADES medians" if band == 0 else None
        axis.fill_between(BANDS[band], low, high, color=_REAL, alpha=0.25, label=label)
    simulated = np.nanpercentile(measured.prism_sn[measured.secure], (16, 50, 84), axis=0)
    _bars(axis, centre, simulated, _SIMULATED, "simulated", "s")
    axis.set_yscale("log")
    _finish(axis, "Median prism S/N per pixel", WAVELENGTH_LABEL, "S/N per pixel")


def _draw_autocorrelation(axis: Axes, measured: Measurements) -> None:
    axis.axhline(0.0, color="grey", lw=0.5)
    axis.plot(LAGS, AUTOCORRELATION, "o-", color=_REAL, label="JADES")
    axis.plot(LAGS, measured.autocorrelation, "s--", color=_SIMULATED, label="simulated")
    axis.set_xticks(LAGS)
    _finish(axis, "Prism noise after 11-px running median", "lag [pixels]", "autocorrelation")


def _draw_resolution(axis: Axes, measured: Measurements) -> None:
    count = measured.resolution_scale.size
    axis.hist(
        measured.resolution_scale,
        np.arange(0.9, 1.6, 0.025),
        color=_SIMULATED,
        alpha=0.5,
        label=f"{count} simulated lines",
    )
    axis.margins(y=0.7)
    low, middle, high = RESOLUTION
    axis.axvspan(low, high, color=_REAL, alpha=0.15, label="JADES, 16-84 %")
    axis.axvline(middle, color=_REAL, label="JADES, median")
    axis.axvline(np.median(measured.resolution_scale), color=_SIMULATED, label="simulated, median")
    _finish(axis, "Prism resolving power from lines", "R / tabulated R", "lines")


def _draw_ratio(axis: Axes, measured: Measurements, ratio: str) -> None:
    table = read_table("jades_line_ratios.ecsv")
    rows = np.flatnonzero(table["ratio"] == ratio)
    centre = 0.5 * (table["z_lo"] + table["z_hi"])[rows]
    real = np.stack([table[name][rows] for name in ("p16", "p50", "p84")])
    simulated = np.stack(
        [ratio_percentiles(measured, ratio, table["z_lo"][row], table["z_hi"][row])[2] for row in rows],
        axis=1,
    )
    for values, color, label, offset in (
        (real, _REAL, "JADES DR4", -0.08),
        (simulated, _SIMULATED, "simulated", 0.08),
    ):
        place = centre + offset
        axis.plot(place, values[1], "o", color=color, label=f"{label}, 16, 50, 84 %")
        axis.vlines(place, values[0], values[2], color=color)
        for end in (values[0], values[2]):
            axis.plot(place, end, "_", color=color, ms=9)
        _point_down(axis, place, values, color)
    if any(_hidden(values).any() for values in (real, simulated)):
        # The legend's arrow; matplotlib takes empty data for that.
        axis.plot([], [], marker=r"$\downarrow$", color="grey", ls="none", label="marks below: not detected")
    axis.margins(y=0.1)
    leave_headroom(axis, 0.4)
    top, bottom = (_LABELS[name] for name in ratio.split("/"))
    _finish(axis, f"{top} / {bottom}, denominator above 10 σ", "z", f"log {top}/{bottom}")


def _hidden(values: np.ndarray) -> np.ndarray:
    """(bins,) bool: the upper percentile is known, the lower one lies among non-detections."""
    return np.isnan(values[0]) & ~np.isnan(values[2])


def _point_down(axis: Axes, place: np.ndarray, values: np.ndarray, color: str) -> None:
    """Arrows from the lowest known percentile where those below it lie among non-detections."""
    lost = _hidden(values)
    lowest = np.where(np.isnan(values[1]), values[2], values[1])[lost]
    axis.errorbar(place[lost], lowest, 0.12, uplims=True, fmt="none", color=color, elinewidth=1.0, capsize=2)


def check(
    config: SimulationConfig,
    n: int,
    seed: int,
    output: Path | None,
    quiet: bool,
    gratings: Path | None = None,
    spectra: Path | None = None,
) -> None:
    """Prints a simulation beside JADES, its continua beside those of real gratings and spectra in folders.

    With an output folder, writes tables and picture there.
    """
    with tqdm(total=n, desc="check", unit="galaxies", disable=quiet) as bar:
        measured = measure_simulation(n, seed, config, bar.update)
    of = {}
    with tqdm(total=3, desc="continua", unit="sample", disable=quiet) as bar:
        for name, continua in samples(config, n, seed, gratings, spectra):
            of[name] = continua
            bar.update()
    text = f"{report([*compare(measured), *compare_galaxies(config, n, seed)], n)}\n{table(of)}"
    print(text, end="")
    if output:
        with replacing(output / "simulation_check.txt") as path:
            path.write_text(text, encoding="utf-8")
        picture = save_picture(draw_simulation_check(measured), output / "simulation_check.png")
        print(f"picture: {picture}")
