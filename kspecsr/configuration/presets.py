"""Presets: a model, its losses and its training under one name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_pipeline.configuration import from_dict, to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.configuration.model import ModelConfig, SR1Config, SR2Config, ZHeadConfig
from kspecsr.configuration.training import FeedConfig, LossConfig, TrainingConfig

STAGES = ("sr1", "zhead", "sr2")


@dataclass(frozen=True)
class Preset:
    """All settings of a training.

    Attributes:
        name: ``default``, ``first``, ``paper``, ``small``, or your own.
        model: networks and grid.
        losses: weights of the loss terms.
        training: stage to its optimiser and schedule.
        feed: simulated training examples.
    """

    name: str = "default"
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    training: dict[str, TrainingConfig] = field(
        default_factory=lambda: {stage: TrainingConfig() for stage in STAGES}
    )
    feed: FeedConfig = field(default_factory=FeedConfig)

    def __post_init__(self) -> None:
        if set(self.training) != set(STAGES):
            raise ValueError(
                f"preset {self.name!r}: expected training settings for {', '.join(STAGES)}, "
                f"got {', '.join(self.training) or 'none'}"
            )
        if self.feed.lines not in ("first", self.model.lines):
            raise ValueError(
                f"preset {self.name!r}: feed.lines is {self.feed.lines!r}, but model.lines is "
                f"{self.model.lines!r}; leave feed.lines out: examples have the lines of the model"
            )
        # a field of a frozen dataclass: the model alone says which list it is
        object.__setattr__(self, "feed", replace(self.feed, lines=self.model.lines))

    def to_json(self) -> str:
        """JSON text of this preset."""
        return json.dumps(to_dict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Preset:
        """Preset from the text of `to_json`; keys left out keep their defaults.

        Raises:
            ValueError: for text that is no JSON, or unknown keys, naming their place.
        """
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"preset: not JSON ({error}); expected an object") from None
        if isinstance(given, dict) and isinstance(given.get("training"), dict):
            unchanged = {stage: {} for stage in STAGES}
            given = {**given, "training": {**unchanged, **given["training"]}}
        return from_dict(cls, given, "preset")

    def with_training(self, stage: str, **changes) -> Preset:
        """A copy with some training settings of one stage changed."""
        return replace(self, training={**self.training, stage: replace(self.training[stage], **changes)})


_PAPER_TRAINING = TrainingConfig(
    epochs=60, steps_per_epoch=390, batch_size=64, learning_rate=1e-3, patience=10
)

PRESETS = {
    # Trained on everything that a slit sees, in every release; says when there is no redshift, and gives line
    # fluxes with correlations. Its SR1 is the best of a sweep (docs/tuning.md).
    "default": Preset(
        model=ModelConfig(
            sr1=SR1Config(channels=112, blocks=11, activation="relu", dropout=0.03137),
            zhead=ZHeadConfig(open_world=True),
            sr2=SR2Config(stellar_absorption=True, line_errors="joint", broad_lines=True),
            lines="second",
        ),
        losses=LossConfig(sr1_line_shape=0.1, sr1_smoothness=0.01),
        training={
            "sr1": TrainingConfig(
                epochs=24,
                steps_per_epoch=100,
                batch_size=16,
                learning_rate=1.061e-3,
                weight_decay=8.862e-5,
                clip_norm=0.08906,
                precision="auto",
            ),
            "zhead": TrainingConfig(epochs=40, steps_per_epoch=75, validation_size=512, precision="auto"),
            "sr2": TrainingConfig(epochs=40, steps_per_epoch=100, learning_rate=1e-3, precision="auto"),
        },
        feed=FeedConfig(population="wide-open"),
    ),
    # Of the first release: galaxies with lines alone, line errors each by itself.
    "first": Preset(
        name="first",
        training={
            "sr1": TrainingConfig(epochs=24),
            "zhead": TrainingConfig(epochs=36),
            "sr2": TrainingConfig(epochs=80, learning_rate=1e-3),
        },
    ),
    # The paper's own choices: its grid and range, a trunk on the up-sampled prism, noisy gratings as targets,
    # its loss terms only, no direct fit (sections 3.2 to 3.4; widths as in its released code).
    "paper": Preset(
        name="paper",
        model=ModelConfig(
            grid=UnifiedGrid(1.0, 5.0, 3000.0),
            sr1=SR1Config(trunk="grid", channels=120, blocks=8, kernel=5, dilations=(1,)),
            zhead=ZHeadConfig(),
            sr2=SR2Config(direct_fit=False, token_dim=128, layers=4, continuum_channels=48),
        ),
        losses=LossConfig(
            aligned=0.0,
            position=0.0,
            line_shape=1.0,
            smoothness=0.1,
            deviation=0.1,
            residual_l1=0.01,
            line_flux=0.0,
            presence=0.0,
            continuum=0.0,
            consistency=0.0,
        ),
        training={stage: _PAPER_TRAINING for stage in STAGES},
        feed=FeedConfig(population="survey", noise_free_targets=False),
    ),
    # For demonstrations and tests: minutes on two cores.
    "small": Preset(
        name="small",
        model=ModelConfig(
            sr1=SR1Config(channels=32, blocks=4, head_channels=12),
            zhead=ZHeadConfig(channels=16, layers=3, templates=8, groups=4),
            sr2=SR2Config(
                window_channels=16, token_dim=48, layers=2, continuum_channels=24, continuum_blocks=2
            ),
        ),
        training={
            "sr1": TrainingConfig(epochs=6, steps_per_epoch=50, batch_size=32, validation_size=64),
            "zhead": TrainingConfig(epochs=10, steps_per_epoch=60, batch_size=32, validation_size=64),
            "sr2": TrainingConfig(epochs=8, steps_per_epoch=50, batch_size=32, validation_size=64),
        },
    ),
}


def load_preset(name: str | Path) -> Preset:
    """A shipped preset by name, or one of your own from a JSON file.

    Raises:
        FileNotFoundError: for what is neither a shipped preset nor a file, listing the shipped ones.
        ValueError: for a file that is no preset, naming it.
    """
    if str(name) in PRESETS:
        return PRESETS[str(name)]
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"preset {str(name)!r}: neither a file nor one of the shipped presets {', '.join(PRESETS)}"
        )
    try:
        return Preset.from_json(path.read_text(encoding="utf-8"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
