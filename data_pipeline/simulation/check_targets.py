"""What was measured on JADES DR4 spectra and catalogues, besides what lies in tables."""

DETECTED_FRACTIONS = (
    # line, S/N limit, share of galaxies with flags A, B, C
    ("HBaA_6563", 5.0, 0.90),
    ("HBaA_6563", 20.0, 0.41),
    ("O3_5007", 5.0, 0.91),
    ("O3_5007", 20.0, 0.51),
    ("HBaB_4861", 5.0, 0.52),
    ("O2_3727", 5.0, 0.48),
    ("N2_6584", 5.0, 0.17),
    ("O3_4363", 5.0, 0.02),
)
# 16, 50, 84 % of fluxes with S/N > 5 [1e-20 erg/s/cm2].
FLUXES = (
    ("HBaA_6563", (88.0, 233.0, 719.0)),
    ("O3_5007", (120.0, 339.0, 1000.0)),
    ("HBaB_4861", (52.0, 115.0, 304.0)),
    ("O2_3727", (89.0, 224.0, 582.0)),
)
BRIGHTEST_SN = (8.0, 21.0, 55.0)
REDSHIFT_PERCENTILES = ((5, 1.02), (25, 2.00), (50, 2.94), (75, 4.15), (95, 6.99))
REDSHIFT_BINS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 15.0)
# Quoted error per prism pixel [1e-21 erg/s/cm2/A]: 16, 50, 84 % over 24 galaxies, by band.
PRISM_ERRORS = (
    (1.4, 1.9, 2.3),
    (0.92, 1.2, 1.7),
    (0.65, 0.80, 1.2),
    (0.42, 0.51, 0.90),
    (0.31, 0.42, 0.75),
    (0.32, 0.42, 0.72),
    (0.45, 0.55, 0.79),
    (0.59, 0.70, 0.92),
)
# Range of the median S/N per prism pixel over the same galaxies: below 2.87 um and beyond 3.5 um.
CONTINUUM_SN = {0: (5, 8), 1: (5, 8), 2: (5, 8), 3: (5, 8), 5: (1.5, 4), 6: (1.5, 4), 7: (1.5, 4)}
AUTOCORRELATION = (0.50, -0.16, -0.34, -0.33, -0.21)
SCATTER_OVER_ERROR = 0.58 / 0.80
RESOLUTION = (1.16, 1.22, 1.29)
FLUX_RATIO = (1.01, 1.13, 1.34)
CENTRE_SCATTER_LIMIT = 200.0  # km/s, 16-84 % half range of prism minus grating line centres
MAGNITUDE = (-19.5, -18.5, -17.3)
CORRELATIONS = (("O3", "Ne3", 0.64), ("O3", "O2", -0.28), ("O2", "z", -0.43), ("O3", "z", 0.37))
