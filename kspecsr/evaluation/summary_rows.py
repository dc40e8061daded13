"""The table on top of the page: figures of merit, and what the published framework has."""

from __future__ import annotations

from kspecsr.evaluation.report import SummaryRow

# Published: the authors' own code and documentation (PEERS, section 0).
ROWS = (
    SummaryRow("Redshift: NMAD of dz/(1+z)", "redshift_nmad", 2),
    SummaryRow("Redshift off by more than 0.15", "redshift_outliers_0.15", 2, "10.8 %", percent=True),
    SummaryRow("Redshift off by more than 0.01", "redshift_outliers_0.01", 2, percent=True),
    SummaryRow("Z_CONF > 0.9", "redshift_confident", 3, percent=True),
    SummaryRow("of these off by more than 0.01", "redshift_confident_outliers", 2, percent=True),
    SummaryRow("Line flux recovered / true, S/N > 5", "recovery", 3, "0.72–0.87"),
    SummaryRow("its robust scatter [ln]", "recovery_scatter", 2),
    SummaryRow("Lines of S/N > 5 found at 3 σ", "completeness", 3, percent=True),
    SummaryRow("Blended lines: flux error / direct fit's", "blended_error over direct_fit", 2),
    SummaryRow(
        "False detections where there is no line", "false_detection", 2, "30 % (Hβ), 44 % ([O II])", True
    ),
    SummaryRow("Flux pull, robust scatter", "pull_scatter", 3),
    SummaryRow("Line cores: scale-free error / cubic's", "scale_free/core over cubic", 2, "> 1"),
    SummaryRow("Line cores: scale-free error / direct fit's", "scale_free/core over direct_fit", 2),
    SummaryRow("the same, both at z of SR2", "scale_free/core over direct_fit_found_z", 2),
    SummaryRow("Continuum: scale-free error / cubic's", "scale_free/continuum over cubic", 2),
    SummaryRow("Amplitude ratio, line cores", "amplitude_ratio", 3, "0.54"),
    SummaryRow("FWHM / true FWHM", "fwhm_ratio", 3),
    SummaryRow("Resolvable [O III] pairs kept", "pairs_kept/oiii", 3, percent=True),
    SummaryRow("Coverage of 68 %: line fluxes", "coverage_68/lines", 3, percent=True),
    SummaryRow("Coverage of 68 %: pixels in cores", "coverage_68/core", 3, "too low", percent=True),
    SummaryRow("Coverage of 68 %: pixels in continuum", "coverage_68/continuum", 3, percent=True),
    SummaryRow("Prism consistency: chi-square per pixel", "prism_chi_square", 3),
    SummaryRow("Prior response (1 reads the data)", "response", 2, "0.16 (Roman grism)"),
)
NOTE = (
    "Median or share with its bootstrap interval over galaxies (16-84 %) and n. Redshifts are inferred, but "
    "for the direct fit and 'z known'; oracles are the truth itself, drawn at a redshift that is no better "
    "known (no method with that redshift does better); line fluxes of methods that give none are fitted on "
    "their spectra at the known redshift. Scatter and all splits are in the tables below."
)
PUBLISHED_NOTE = (
    "Published: what the authors of the framework state of their own code, on their own held-out JADES "
    "galaxies and with their own definitions; these figures and ours are not of the same galaxies."
)
