"""Settings of what differs between observations besides the galaxy."""

from dataclasses import dataclass

from data_pipeline.configuration import check_between, check_numbers


@dataclass(frozen=True)
class Nuisances:
    """Differences between observations besides the galaxy. Scatters are one sigma.

    Attributes:
        prism_resolution_scale: median factor on the tabulated prism resolving power (JADES: 1.22).
        prism_resolution_scatter: its scatter as a fraction (JADES 16-84 %: 1.16-1.29, fit errors included).
        zero_point_shift: scatter of the prism's wavelength zero point [prism pixels].
        flux_ratio: median of prism over grating flux (JADES: 1.13).
        flux_ratio_scatter: scatter [natural log] of its mean per galaxy.
        flux_ratio_drift: scatter [natural log] of its smooth drift with wavelength.
        arm_scale_scatter: scatter [natural log] of each grating's own constant.
        noise_scale: factor on all noise; 0 gives noise-free spectra with the usual quoted errors.
        quoted_error: median of quoted error over noise per detector pixel, prism.
        quoted_error_scatter: its scatter [natural log].
        grating_quoted_error: the same for gratings, over noise per pixel.
        grating_correlation: lag-1 autocorrelation of grating noise.
        photon_noise: growth of the prism's variance with the source, per unit of S/N in a pixel.
        grating_photon_noise: the same for gratings, whose background is lower.
        bad_pixel_fraction: share of bad pixels outside edges and gaps.
        edge_pixels: fewest and most bad pixels at each end of a prism spectrum.
        outlier_fraction: share of detector pixels with an unflagged outlier.
        gap_fraction: share of spectra with detector gaps in the gratings.
        missing_grating_fraction: chance that a grating was not taken.
    """

    prism_resolution_scale: float = 1.22
    prism_resolution_scatter: float = 0.025
    zero_point_shift: float = 0.1
    flux_ratio: float = 1.13
    flux_ratio_scatter: float = 0.1
    flux_ratio_drift: float = 0.05
    arm_scale_scatter: float = 0.07
    noise_scale: float = 1.0
    quoted_error: float = 1.0
    quoted_error_scatter: float = 0.1
    grating_quoted_error: float = 1.0
    grating_correlation: float = 0.42
    photon_noise: float = 0.02
    grating_photon_noise: float = 0.11
    bad_pixel_fraction: float = 0.003
    edge_pixels: tuple[int, int] = (2, 6)
    outlier_fraction: float = 5e-4
    gap_fraction: float = 1.0
    missing_grating_fraction: float = 0.05

    def __post_init__(self) -> None:
        check_numbers(self, ("prism_resolution_scale", "flux_ratio", "quoted_error", "grating_quoted_error"))
        object.__setattr__(self, "edge_pixels", tuple(int(n) for n in self.edge_pixels))
        for name, value in vars(self).items():
            if not isinstance(value, tuple) and value < 0:
                raise ValueError(f"{name}: expected zero or more, got {value}")
        check_between("grating_correlation", self.grating_correlation, 0.0, 0.5)
        if len(self.edge_pixels) != 2 or not 0 <= self.edge_pixels[0] <= self.edge_pixels[1]:
            raise ValueError(f"edge_pixels: expected 0 <= fewest <= most, got {self.edge_pixels}")
