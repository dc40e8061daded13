"""Super-resolution of low-resolution galaxy spectra."""

__version__ = "0.1.0"
