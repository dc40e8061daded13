"""Nearest good pixels on either side, inside a graph."""

from __future__ import annotations

import tensorflow as tf


def good_neighbours(good: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Good pixels before and after each pixel, a good one being its own neighbour on both sides.

    Args:
        good: (B, n) bool.

    Returns:
        Positions (B, n) int32 each: -1 where no good pixel comes before, n where none comes after.
    """
    n = tf.shape(good)[1]
    place = tf.range(n)
    # good positions first, in order; what follows them is never looked at
    listed = tf.sort(tf.where(good, place, n), axis=1)
    listed = tf.pad(listed, [[0, 0], [1, 1]])
    listed = tf.concat([-tf.ones_like(listed[:, :1]), listed[:, 1:-1], n * tf.ones_like(listed[:, :1])], 1)
    rank = tf.cumsum(tf.cast(good, tf.int32), axis=1)  # good pixels up to and including this one
    before = tf.gather(listed, rank, batch_dims=1)
    after = tf.gather(listed, tf.where(good, rank, rank + 1), batch_dims=1)
    return before, after
