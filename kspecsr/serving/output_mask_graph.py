"""Where the output has no input to rest on: `kspecsr.prism_input.output_mask` as TensorFlow ops."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from data_pipeline.instrument import PRISM, load_instrument
from kspecsr.prism_input import prism_pixel_of
from kspecsr.serving.good_neighbours import good_neighbours


def bridged_gaps() -> np.ndarray:
    """(P, longest) bool: whether a gap from a prism pixel on, one pixel long and longer, is bridged."""
    prism = load_instrument(PRISM)
    low, high = prism.bounds
    longest, columns = 1, []
    while True:
        start = np.arange(low.size - longest + 1)
        stop = start + longest - 1
        bridged = high[stop] - low[start] <= prism.fwhm(0.5 * (low[start] + high[stop]))
        if not bridged.any():
            return np.stack(columns, axis=1)
        columns.append(np.pad(bridged, (0, longest - 1)))
        longest += 1


def output_mask_graph(prism_mask: tf.Tensor, wavelength: np.ndarray) -> tf.Tensor:
    """Pixels beyond the data, and in gaps wider than the instrument's resolution.

    Args:
        prism_mask: (B, P) bool, True = bad.
        wavelength: (N,) pixels of the output [um].

    Returns:
        (B, N) bool, True = no data.
    """
    table = bridged_gaps()
    pixels, longest = table.shape
    before, after = good_neighbours(~prism_mask)
    inner = prism_mask & (before >= 0) & (after < pixels)
    length = after - before - 1
    known = inner & (length <= longest)
    index = tf.where(known, (before + 1) * longest + length - 1, 0)
    bridged = known & tf.gather(tf.constant(table.ravel()), index)
    column, covered = prism_pixel_of(wavelength)
    return tf.gather(prism_mask & ~bridged, column, axis=1) | ~covered
