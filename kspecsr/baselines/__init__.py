"""Classical methods, on the same spectra and with the true line-spread operator."""

from kspecsr.baselines.cubic import CubicInterpolation
from kspecsr.baselines.protocol import Baseline
from kspecsr.baselines.richardson_lucy import RichardsonLucy
from kspecsr.baselines.tikhonov import Tikhonov
from kspecsr.baselines.tuned import SHIPPED, TunedBaselines, default_baselines, read_tuned
from kspecsr.baselines.wiener import Wiener

__all__ = [
    "SHIPPED",
    "Baseline",
    "CubicInterpolation",
    "RichardsonLucy",
    "Tikhonov",
    "TunedBaselines",
    "Wiener",
    "default_baselines",
    "read_tuned",
]
