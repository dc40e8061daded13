"""Options of the direct line fit."""

from __future__ import annotations

from dataclasses import dataclass

from kspecsr.configuration.checks import check_range


@dataclass(frozen=True)
class DirectFitConfig:
    """How prism lines are fitted.

    Attributes:
        knots: hat functions of the continuum, evenly spaced in prism pixels.
        smoothness: weight of the continuum's second differences over that of its data: too small to be seen
            where there are data, it carries the continuum across gaps.
        systematic: error of the model as a share of the local amplitude (imperfect line-spread function, flat
            field), added to the quoted errors in quadrature.
        ridge: added to the unit diagonal of the lines' normal equations: shares flux evenly between lines
            that cannot be told apart.
        resolution_scale: factor on the tabulated resolving power; None for what reduced spectra show.
        zero_point_shift: by how many prism pixels lines lie redwards of where their redshift puts them.
        velocity_sigma: intrinsic width of the lines [km/s].
        correlated_noise: released prism pixels share detector pixels; False for independent pixels whose
            scatter is the quoted error.

    Raises:
        ValueError: for a number that makes no sense, naming it.
    """

    knots: int = 30
    smoothness: float = 1e-4
    systematic: float = 0.02
    ridge: float = 3e-4
    resolution_scale: float | None = None
    zero_point_shift: float = 0.0
    velocity_sigma: float = 50.0
    correlated_noise: bool = True

    def __post_init__(self) -> None:
        check_range("direct fit, knots", self.knots, 4)
        for name in ("systematic", "velocity_sigma"):
            check_range(f"direct fit, {name}", getattr(self, name), 0.0)
        for name in ("smoothness", "ridge"):
            check_range(f"direct fit, {name}", getattr(self, name), 1e-12)
        if self.resolution_scale is not None:
            check_range("direct fit, resolution_scale", self.resolution_scale, 0.1, 10.0)
        check_range("direct fit, zero_point_shift", self.zero_point_shift, -10.0, 10.0)
