"""The direct line fit to a prism spectrum at a known redshift: what a careful astronomer does today."""

from kspecsr.linefit.config import DirectFitConfig
from kspecsr.linefit.direct_fit import DirectFit
from kspecsr.linefit.fit import fit_prism_lines

__all__ = ["DirectFit", "DirectFitConfig", "fit_prism_lines"]
