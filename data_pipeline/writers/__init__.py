"""Writers: JADES x1d files and catalogues (for the simulator), and the project's own FITS spectra."""

from data_pipeline.jades_names import JadesFileName, jades_file_name, parse_jades_file_name
from data_pipeline.writers.jades import write_jades_catalogue, write_jades_x1d
from data_pipeline.writers.spectrum_fits import write_spectrum

__all__ = [
    "JadesFileName",
    "jades_file_name",
    "parse_jades_file_name",
    "write_jades_catalogue",
    "write_jades_x1d",
    "write_spectrum",
]
