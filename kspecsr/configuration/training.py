"""Configuration of training: losses, optimiser and schedule, and what the examples are."""

from dataclasses import dataclass, field

from data_pipeline.configuration import NEWER
from data_pipeline.lines import LISTS
from data_pipeline.simulation import POPULATIONS
from kspecsr.configuration.model import check_choice, check_range

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; a weight of 0 leaves the term out (docs/design.md, losses).

    Attributes:
        likelihood: Gaussian likelihood of the pixels, SR1 and SR2.
        aligned: the same with the truth moved to the redshift at which SR2 draws lines; the flux learns from
            this one alone, the errors from the other. 0 lets both learn from the other.
        position: distance of the drawn lines from their true places, which the shift that all lines share
            learns from, SR2.
        line_shape: high-pass match inside the line mask, SR2 (paper section 3.3).
        smoothness: roughness of the correction outside the mask, SR2 (paper section 3.3).
        deviation: size of the correction outside the mask, SR2 (paper section 3.3).
        residual_l1: absolute size of the correction everywhere, SR2 (paper section 3.4).
        line_flux: likelihood of line fluxes, SR2.
        presence: cross-entropy of line presence, SR2.
        continuum: match of the continuum under the lines, where it is known, SR2.
        consistency: chi-square of the degraded output against the prism, SR2.
        broad_lines: cross-entropy of there being broad lines, and likelihood of their width, SR2 with them.
        no_redshift: cross-entropy of whether there is a redshift to be had, ZHead of an open world.
        object_class: cross-entropy of the class of the object, ZHead of an open world.
        sr1_line_shape: high-pass match where lines are at the true redshift, SR1 (paper section 3.4).
        sr1_smoothness: roughness of the output elsewhere, SR1 (paper section 3.4).
    """

    likelihood: float = 1.0
    aligned: float = 1.0
    position: float = 0.1
    line_shape: float = 0.3
    smoothness: float = 0.02
    deviation: float = 0.02
    residual_l1: float = 0.0
    line_flux: float = 1.0
    presence: float = 0.5
    continuum: float = 0.2
    consistency: float = 0.05
    broad_lines: float = 1.0
    no_redshift: float = 0.5
    object_class: float = 0.2
    sr1_line_shape: float = 0.0
    sr1_smoothness: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_range(f"losses.{name}", value, 0.0)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser and schedule of one stage.

    Attributes:
        epochs: most epochs.
        steps_per_epoch: optimiser steps in an epoch.
        batch_size: examples per step, over all devices.
        learning_rate: learning rate at its peak.
        final_learning_rate: learning rate at the end of the cosine decay, as a fraction of the peak.
        warmup: fraction of all steps in which the learning rate rises linearly.
        weight_decay: decoupled weight decay of AdamW.
        clip_norm: largest global norm of the gradients, which are scaled down to it.
        patience: epochs without a better goal metric after which training stops; 0 never stops.
        validation_size: number of galaxies that measure the goal.
        teacher_start: probability that SR2 is given the true redshift, at the first step.
        teacher_stop: the same at the last step; linear between (paper section 3.3).
        precision: Keras dtype policy; heads and losses stay float32. ``auto`` is ``mixed_bfloat16`` where
            that is fast (processors with AMX or AVX512-BF16, GPUs), ``float32`` elsewhere.
    """

    epochs: int = 30
    steps_per_epoch: int = 50
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_learning_rate: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    patience: int = 0
    validation_size: int = 256
    teacher_start: float = 0.8
    teacher_stop: float = 0.2
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "validation_size"):
            check_range(f"training.{name}", getattr(self, name), 1)
        check_range("training.learning_rate", self.learning_rate, 0.0)
        check_range("training.weight_decay", self.weight_decay, 0.0)
        check_range("training.patience", self.patience, 0)
        if not self.clip_norm > 0:
            raise ValueError(f"training.clip_norm: expected a positive number, got {self.clip_norm!r}")
        for name in ("final_learning_rate", "warmup", "teacher_start", "teacher_stop"):
            check_range(f"training.{name}", getattr(self, name), 0.0, 1.0)
        check_choice("training.precision", self.precision, PRECISIONS)

    @property
    def steps(self) -> int:
        """Total number of optimiser steps."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class FeedConfig:
    """Training examples drawn afresh from the simulator, with its nuisances (docs/design.md, simulator).

    Attributes:
        population: population of galaxies, a name of the simulator.
        noise_free_targets: train on the noise-free truth; False for the stitched, noisy gratings.
        resolution_scatter: scatter [natural log] of the prism's resolving power between spectra.
        zero_point_shift: scatter of the prism's zero point [prism pixels].
        error_scatter: scatter [natural log] of quoted over true errors.
        gap_fraction: fraction of spectra with a stretch of missing pixels.
        truncated_fraction: fraction of spectra that miss part of the range at an end.
        coarse_fraction: fraction of spectra binned to detector pixels; none of populations that have several
            releases, as those have such pixels of their own.
        lines: list of lines that galaxies emit; a preset's is that of its model.
    """

    population: str = "wide"
    noise_free_targets: bool = True
    resolution_scatter: float = 0.08
    zero_point_shift: float = 0.15
    error_scatter: float = 0.15
    gap_fraction: float = 0.1
    truncated_fraction: float = 0.15
    coarse_fraction: float = 0.15
    lines: str = field(default="first", metadata=NEWER)

    def __post_init__(self) -> None:
        check_choice("feed.population", self.population, tuple(POPULATIONS))
        check_choice("feed.lines", self.lines, tuple(LISTS))
        for name in ("resolution_scatter", "zero_point_shift", "error_scatter"):
            check_range(f"feed.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("gap_fraction", "truncated_fraction", "coarse_fraction"):
            check_range(f"feed.{name}", getattr(self, name), 0.0, 1.0)
