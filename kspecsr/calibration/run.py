"""Calibrates a model folder on galaxies that are neither trained on nor judged on."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kspecsr.calibration.calibration import Calibration, write_calibration
from kspecsr.calibration.measure import CalibrationSample
from kspecsr.enhancement.writable import check_writable
from kspecsr.evaluation.methods import Networks, predicted
from kspecsr.evaluation.sources import SHIPPED_SEED, HeldOutSource, SimulatedHeldOut
from kspecsr.model_folder import read_settings, weights_hash
from kspecsr.super_resolver import SuperResolver

GALAXIES, SEED = 2000, 7  # as python -m kspecsr.calibrate has them when nothing else is asked for


def calibrate_model(folder: Path, n: int, seed: int, quiet: bool = False) -> tuple[Calibration, Path]:
    """Measures the calibration of a model and writes it into its folder.

    Args:
        folder: of the model; a calibration that it has is not applied, and replaced.
        n: galaxies.
        seed: of the galaxies.
        quiet: no progress bar.

    Returns:
        The calibration and its file.

    Raises:
        ValueError: for the seed of the galaxies that `kspecsr.evaluate` judges on, or a folder that is no
            model.
        OSError: where it cannot be written.
    """
    if seed == SHIPPED_SEED:
        raise ValueError(
            f"seed {seed} is that of the galaxies that models are judged on; errors would be calibrated to "
            "them: give another one"
        )
    check_writable(folder)
    networks = SuperResolver.from_folder(folder, calibrated=False)
    source = SimulatedHeldOut(read_settings(folder).grid, seed)
    measured_on = {**source.description, "galaxies": n, "uncalibrated": weights_hash(folder, False)}
    with tqdm(total=n, desc="calibrate", unit="galaxy", delay=2, disable=quiet) as bar:
        sample = collect(networks, source, n, bar.update)
    calibration = sample.calibration(networks.redshift_bins, measured_on)
    return calibration, write_calibration(folder, calibration)


def collect(
    networks: Networks, source: HeldOutSource, n: int, advance=lambda galaxies: None
) -> CalibrationSample:
    """What the networks make of the first ``n`` galaxies, with redshifts inferred.

    Args:
        networks: without calibration.
        source: of the galaxies.
        n: how many.
        advance: called with the number of galaxies that have been added.
    """
    sample, total = CalibrationSample(), 0
    for number in count():
        held_out = source.chunk(number)
        if held_out is None or total == n:
            return sample
        held_out = held_out.rows(np.arange(min(len(held_out), n - total)))
        if len(held_out):
            sample.add(held_out, predicted(held_out, networks, None))
        total += len(held_out)
        advance(len(held_out))
