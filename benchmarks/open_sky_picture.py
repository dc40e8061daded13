"""Picture of one simulated prism spectrum of each kind and in each trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.pictures.style import WAVELENGTH_LABEL, flux_label, styled
from data_pipeline.simulation import KINDS, TROUBLES, SimulatedBatch, SimulationConfig, simulate_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_SIMULATED = 600  # observations among which the examples are


def chosen_examples(batch: SimulatedBatch) -> dict[str, int]:
    """Kind or trouble to the row of a spectrum of it whose S/N is the second best."""
    with np.errstate(invalid="ignore"):
        signal = np.abs(batch.noise_free_prism).mean(axis=1) / np.nanmedian(batch.prism_error, axis=1)
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
def draw_kinds(population: str, seed: int) -> Figure:
    """Draws observed and noise-free prism spectra, one of each kind and trouble.

    Args:
        population: name of a population.
        seed: of the simulation.
    """
    from matplotlib.figure import Figure  # slow to import

    batch = simulate_batch(np.arange(_SIMULATED), seed, SimulationConfig(population), gratings=False)
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
