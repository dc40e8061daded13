"""Small networks and simulated spectra that the tests of layers, models and losses share."""

from dataclasses import replace

import keras
import numpy as np

from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.simulation import SimulationConfig, simulate_batch
from kspecsr.configuration import ModelConfig, Preset, SR1Config, SR2Config, ZHeadConfig
from kspecsr.model_folder import write_stage
from kspecsr.models import BUILDERS

TINY = ModelConfig(
    grid=UnifiedGrid(0.9, 5.2, 1200.0),
    sr1=SR1Config(channels=8, blocks=2, kernel=3, dilations=(1, 2), head_channels=6),
    zhead=ZHeadConfig(channels=8, layers=2, kernel=5, templates=4, groups=2, max_redshift=12.0),
    sr2=SR2Config(
        half_width=5,
        window_channels=6,
        token_dim=16,
        heads=2,
        layers=1,
        continuum_channels=6,
        continuum_blocks=1,
    ),
)
# with all that the preset `second` puts out
SECOND = replace(
    TINY,
    zhead=replace(TINY.zhead, open_world=True),
    sr2=replace(TINY.sr2, line_errors="joint", broad_lines=True),
)
FULL = (0.7, 5.3, 3000.0)
UNIT = 1e-20


def spectra(n=6, seed=3, unit=UNIT, population="survey"):
    """Simulated prism spectra as inputs of the stages [1e-20 erg/s/cm2/A], and the simulation."""
    batch = simulate_batch(np.arange(n), seed, SimulationConfig(population), gratings=False)
    mask = batch.prism_mask
    inputs = {
        "prism_flux": np.where(mask, 0.0, batch.prism_flux / unit).astype("float32"),
        "prism_error": np.where(mask, 1.0, batch.prism_error / unit).astype("float32"),
        "prism_mask": mask,
        "redshift": np.full(n, np.nan, "float32"),
    }
    return inputs, batch


def tiny_model(folder, seed=3, model=TINY):
    """A complete model folder of `TINY` networks, or of others, that were never trained."""
    keras.utils.set_random_seed(seed)
    upstream = {}
    for stage, build in BUILDERS.items():
        preset, provenance = Preset(name="tiny", model=model), {"upstream": dict(upstream)}
        upstream[stage] = write_stage(folder, stage, build(model), preset, provenance)
    return folder


def numpy_dict(outputs):
    """Tensors to arrays."""
    return {name: np.asarray(value) for name, value in outputs.items()}
