"""Response of a reconstruction to each prism pixel, found for many pixels at once, and its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kspecsr.baselines.pixel_noise import LAG_COVARIANCE, quadratic_form

SPACING = 48  # prism pixels


@dataclass(frozen=True, eq=False)
class Probing:
    """Impulses in every 48th prism pixel at once.

    A reconstruction answers an impulse within a few line-spread functions. The answers to impulses 48
    pixels apart do not meet, so that 48 answers give the response to all P pixels: at each place that of
    the 48 pixels around it. What is farther than 24 pixels away is lost; that changes errors only for
    regularisations so strong that they average over tens of pixels.

    Attributes:
        pixels: P.
        index: (m, 48) prism pixel at each place of the output and in order; outside 0 to P - 1 where
            ``inside`` is False.
        inside: (m, 48) bool.
    """

    pixels: int
    index: np.ndarray
    inside: np.ndarray

    @classmethod
    def around(cls, position: np.ndarray, pixels: int) -> Probing:
        """Windows around the places (m,) of the output [prism pixels]."""
        index = np.round(position).astype(int)[:, None] - SPACING // 2 + np.arange(SPACING)
        return cls(pixels, index, (index >= 0) & (index < pixels))

    def response(self, answers: np.ndarray) -> np.ndarray:
        """Response (m, 48) to the pixels of each window.

        Args:
            answers: (m, 48) output for impulses in the pixels q, q + 48, q + 96, ... for q = 0 to 47.
        """
        return np.where(self.inside, np.take_along_axis(answers, self.index % SPACING, axis=1), 0.0)

    def error(self, answers: np.ndarray, pixel_error: np.ndarray) -> np.ndarray:
        """One-sigma error (m,) from quoted errors (P,), with the correlation of the pixels' noise."""
        row = self.response(answers) * pixel_error[np.clip(self.index, 0, self.pixels - 1)]
        return np.sqrt(np.maximum(quadratic_form(row), 0.0))

    def variance_weights(self, answers: np.ndarray) -> np.ndarray:
        """Weights (m, 48) of the squared quoted errors of each window, where these change little."""
        row = self.response(answers)
        correlated = LAG_COVARIANCE[0] * row
        for lag, covariance in enumerate(LAG_COVARIANCE[1:], start=1):
            correlated[:, lag:] += covariance * row[:, :-lag]
            correlated[:, :-lag] += covariance * row[:, lag:]
        return row * correlated
