"""Classical methods: the direct line fit at a known redshift, interpolation, deconvolutions."""

from kspecsr.methods.direct_fit import DirectFitConfig, fit_prism_lines
from kspecsr.methods.direct_fit_result import DirectFit
from kspecsr.methods.protocol import Baseline, CubicInterpolation
from kspecsr.methods.regularised import Tikhonov, Wiener
from kspecsr.methods.richardson_lucy import RichardsonLucy
from kspecsr.methods.tuned import SHIPPED, TunedBaselines, default_baselines, read_tuned

__all__ = [
    "SHIPPED",
    "Baseline",
    "CubicInterpolation",
    "DirectFit",
    "DirectFitConfig",
    "RichardsonLucy",
    "Tikhonov",
    "TunedBaselines",
    "Wiener",
    "default_baselines",
    "fit_prism_lines",
    "read_tuned",
]
