"""Configuration of the three networks."""

import math
from dataclasses import dataclass, field

from data_pipeline.configuration import NEWER
from data_pipeline.lines import LISTS
from data_pipeline.pixel_grid import UnifiedGrid


def check_range(where: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse anything but a finite number in [low, high].

    Raises:
        ValueError: naming the field, what was received and what is expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    if not low <= value <= high:
        upper = f" to {high:g}" if math.isfinite(high) else " or more"
        raise ValueError(f"{where}: expected {low:g}{upper}, got {value!r}")


def check_choice(where: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the choices.

    Raises:
        ValueError: listing them.
    """
    if value not in choices:
        raise ValueError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")


TRUNKS = ("detector", "grid")
LINE_ERRORS = ("independent", "joint")
# What a spectrum may be of, in the order of the class probabilities.
OBJECT_CLASSES = ("galaxy with lines", "galaxy without lines", "broad lines", "no galaxy", "nothing")
ACTIVATIONS = ("elu", "relu", "gelu", "silu")


@dataclass(frozen=True)
class SR1Config:
    """First stage: residual convolutions to a coarse super-resolution (docs/design.md, networks).

    Attributes:
        trunk: ``detector`` convolves on the prism's own pixels, where its line-spread function is constant,
            and goes to the unified grid by a fixed operator; ``grid`` convolves the up-sampled prism (the
            paper's).
        channels: number of channels of the trunk.
        blocks: number of residual blocks.
        kernel: width of the convolutions [pixels].
        dilations: dilations of the blocks, in turn.
        activation: name of the activation in Keras.
        dropout: dropout probability inside residual blocks.
        head_channels: number of channels of the light head on the unified grid.
    """

    trunk: str = "detector"
    channels: int = 96
    blocks: int = 8
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 1, 4)
    activation: str = "elu"
    dropout: float = 0.02
    head_channels: int = 24

    def __post_init__(self) -> None:
        check_choice("sr1.trunk", self.trunk, TRUNKS)
        check_choice("sr1.activation", self.activation, ACTIVATIONS)
        for name in ("channels", "blocks", "kernel", "head_channels"):
            check_range(f"sr1.{name}", getattr(self, name), 1)
        if not self.dilations:
            raise ValueError("sr1.dilations: expected one or more dilations, got none")
        for dilation in self.dilations:
            check_range("sr1.dilations", dilation, 1)
        check_range("sr1.dropout", self.dropout, 0.0, 0.9)


@dataclass(frozen=True)
class ZHeadConfig:
    """Second stage: redshift by correlation in log wavelength (docs/design.md, redshift).

    Attributes:
        pooling: pixels of the unified grid per step of the features.
        finer: bins of P(z) per such step.
        max_redshift: upper end of P(z), which begins at 0.
        channels: number of channels of the convolutions.
        layers: number of convolutions before the correlation.
        kernel: width of the convolutions [steps].
        templates: number of feature channels, each correlated with a learned rest-frame template.
        groups: number of scores per redshift before the last, pointwise layers.
        activation: name of the activation in Keras.
        dropout: dropout probability after each convolution.
        open_world: put out the probabilities that there is no redshift to be had, and of `OBJECT_CLASSES`.
    """

    pooling: int = 3
    finer: int = 3
    max_redshift: float = 15.0
    channels: int = 32
    layers: int = 4
    kernel: int = 7
    templates: int = 16
    groups: int = 8
    activation: str = "elu"
    dropout: float = 0.02
    open_world: bool = False

    def __post_init__(self) -> None:
        check_choice("zhead.activation", self.activation, ACTIVATIONS)
        for name in ("pooling", "finer", "channels", "layers", "kernel", "templates", "groups"):
            check_range(f"zhead.{name}", getattr(self, name), 1)
        check_range("zhead.max_redshift", self.max_redshift, 0.1, 30.0)
        check_range("zhead.dropout", self.dropout, 0.0, 0.9)
        if self.templates % self.groups:
            raise ValueError(
                f"zhead.templates: expected a multiple of zhead.groups ({self.groups}), got {self.templates}"
            )


@dataclass(frozen=True)
class SR2Config:
    """Third stage: line tokens and a smooth continuum correction (paper section 3.3; docs/design.md, lines).

    Attributes:
        half_width: W; a line's window has 2 W + 1 samples, half a prism pixel apart.
        window_channels: number of channels of the window encoder.
        token_dim: width of a line token.
        heads: number of attention heads.
        layers: number of Transformer layers.
        direct_fit: give each token flux and error of the linear fit to the observed spectrum.
        knots: number of knots of the fit's continuum.
        stellar_absorption: the fit's continuum has a column for Balmer break and absorption lines of stars.
        line_errors: ``independent`` puts out an error for each line by itself; ``joint`` the posterior of all
            lines together, from a learned prior and the spectrum's exact likelihood.
        broad_lines: permitted lines have a broad component besides, all of one width; needs joint errors.
        continuum_channels: number of channels of the continuum branch.
        continuum_blocks: number of its residual blocks, whose skips are scaled by 0.5.
        continuum_kernel: width of its convolutions [prism pixels].
        residual_cap: largest correction to SR1, in units of the brightest flux of the spectrum.
        velocity_shift: largest shift of all lines together, as a fraction of the wavelength.
        line_shift: largest further shift of one line, as a fraction of the wavelength.
        max_velocity_sigma: broadest line [km/s].
        activation: name of the activation in Keras.
        dropout: dropout probability.
    """

    half_width: int = 16
    window_channels: int = 32
    token_dim: int = 176
    heads: int = 4
    layers: int = 4
    direct_fit: bool = True
    knots: int = 30
    stellar_absorption: bool = field(default=False, metadata=NEWER)
    line_errors: str = "independent"
    broad_lines: bool = False
    continuum_channels: int = 48
    continuum_blocks: int = 4
    continuum_kernel: int = 5
    residual_cap: float = 50.0
    velocity_shift: float = 0.003
    line_shift: float = 0.0007
    max_velocity_sigma: float = 2500.0
    activation: str = "elu"
    dropout: float = 0.02

    def __post_init__(self) -> None:
        check_choice("sr2.activation", self.activation, ACTIVATIONS)
        check_choice("sr2.line_errors", self.line_errors, LINE_ERRORS)
        if self.line_errors == "joint" and not self.direct_fit:
            raise ValueError("sr2.line_errors: joint needs the direct fit, got sr2.direct_fit = false")
        if self.broad_lines and self.line_errors != "joint":
            raise ValueError(f"sr2.broad_lines: needs sr2.line_errors = 'joint', got {self.line_errors!r}")
        for name in (
            "half_width",
            "window_channels",
            "token_dim",
            "heads",
            "layers",
            "continuum_channels",
            "continuum_blocks",
            "continuum_kernel",
        ):
            check_range(f"sr2.{name}", getattr(self, name), 1)
        check_range("sr2.knots", self.knots, 4, 200)
        check_range("sr2.residual_cap", self.residual_cap, 1e-3)
        check_range("sr2.velocity_shift", self.velocity_shift, 0.0, 0.05)
        check_range("sr2.line_shift", self.line_shift, 0.0, 0.05)
        check_range("sr2.max_velocity_sigma", self.max_velocity_sigma, 10.0, 20_000.0)
        check_range("sr2.dropout", self.dropout, 0.0, 0.9)
        if self.token_dim % self.heads:
            raise ValueError(
                f"sr2.token_dim: expected a multiple of sr2.heads ({self.heads}), got {self.token_dim}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The three stages on one grid.

    Attributes:
        grid: unified grid of the output.
        sr1: first stage.
        zhead: second stage.
        sr2: third stage.
        lines: list of lines (`data_pipeline.lines.load_lines`) that it measures and is trained on.
    """

    grid: UnifiedGrid = field(default_factory=UnifiedGrid)
    sr1: SR1Config = field(default_factory=SR1Config)
    zhead: ZHeadConfig = field(default_factory=ZHeadConfig)
    sr2: SR2Config = field(default_factory=SR2Config)
    lines: str = field(default="first", metadata=NEWER)

    def __post_init__(self) -> None:
        check_choice("model.lines", self.lines, tuple(LISTS))
