"""One call reads a spectrum of any known format.

Example:
    >>> from data_pipeline.readers import read_spectrum
    >>> spectrum = read_spectrum("hlsp_jades_..._x1d.fits", extraction="3pix")
    >>> spectrum.wavelength, spectrum.flux, spectrum.error, spectrum.mask
"""

from data_pipeline.readers.format import Format
from data_pipeline.readers.recognise import FORMATS, identify_format, read_spectrum
