"""Simulated prism spectra of each kind and in each trouble: a picture of one, and the S/N of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import WAVELENGTH_LABEL, flux_label, styled
from data_pipeline.simulation import KINDS, TROUBLES, SimulatedBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3


def signal_to_noise(batch: SimulatedBatch) -> np.ndarray:
    """(b,) root mean square over 1-5 um of noise-free prism flux over quoted error, per pixel."""
    window = (batch.prism_wavelength > 1.0) & (batch.prism_wavelength < 5.0)
    return np.sqrt(np.nanmean((batch.noise_free_prism / batch.prism_error)[:, window] ** 2, axis=1))


def signal_table(batch: SimulatedBatch) -> str:
    """Number and S/N of the spectra of each kind that are in no trouble, as text."""
    kind, calm, sn = np.array(batch.kind), np.array(batch.trouble) == "", signal_to_noise(batch)
    lines = [f"{'kind':17s}{'n':>5s}   S/N per pixel: 5, 16, 50, 84, 95 %"]
    for name in KINDS:
        rows = calm & (kind == name)
        if rows.any():
            numbers = "".join(f"{one:8.1f}" for one in np.nanpercentile(sn[rows], (5, 16, 50, 84, 95)))
            lines.append(f"{name:17s}{rows.sum():5d}{numbers}")
    return "\n".join(lines)


def chosen_examples(batch: SimulatedBatch) -> dict[str, int]:
    """Kind or trouble to the row of a spectrum of it whose S/N is the second best."""
    signal = signal_to_noise(batch)
    kind, trouble = np.array(batch.kind), np.array(batch.trouble)
    which = {name: (kind == name) & (trouble == "") for name in KINDS}
    which |= {name: (trouble == name) & batch.has_redshift for name in TROUBLES}
    found = {}
    for name, rows in which.items():
        order = np.flatnonzero(rows)[np.argsort(signal[rows])]
        if order.size:
            found[name] = int(order[max(order.size - 2, 0)])
    return found


@styled
def draw_kinds(batch: SimulatedBatch) -> Figure:
    """Draws observed and noise-free prism spectra, one of each kind and trouble."""
    from matplotlib.figure import Figure  # slow to import

    examples = chosen_examples(batch)
    rows = -(-len(examples) // _COLUMNS)
    figure = Figure(figsize=(13.0, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes[len(examples) :]:
        axis.remove()
    x = batch.prism_wavelength
    for axis, (name, row) in zip(axes, examples.items(), strict=False):
        flux, clean = 1e20 * batch.prism_flux[row], 1e20 * batch.noise_free_prism[row]
        error = 1e20 * batch.prism_error[row]
        axis.fill_between(x, flux - error, flux + error, color="grey", alpha=0.4, lw=0, step="mid")
        axis.step(x, flux, color="black", lw=0.7, where="mid")
        axis.plot(x, clean, color="tab:orange", lw=0.8)
        axis.axhline(0.0, color="grey", lw=0.4)
        seen = np.nanpercentile(flux, (0.5, 99.7))
        axis.set_ylim(min(seen[0], 0.0) - 0.1 * np.ptp(seen), max(seen[1], clean.max()) + 0.1 * np.ptp(seen))
        second = f", {batch.second_redshift[row]:.2f}" if np.isfinite(batch.second_redshift[row]) else ""
        z = f"z {batch.redshift[row]:.2f}{second}" if batch.has_redshift[row] else "no redshift"
        axis.set_title(f"{name}: {batch.kind[row]}, {z}" if name in TROUBLES else f"{name}, {z}")
    figure.supxlabel(WAVELENGTH_LABEL)
    figure.supylabel(flux_label(-20))
    return figure
