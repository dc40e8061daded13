"""Residual blocks of normalised convolutions (paper section 3.3)."""

from __future__ import annotations

import keras


def residual_block(
    x,
    kernel: int,
    activation: str,
    dropout: float,
    name: str,
    dilation: int = 1,
    scale: float = 1.0,
):
    """Normalisation, convolution, activation, dropout, convolution, and the skip.

    The normalisation is over the channels of each pixel: it depends neither on the batch nor on other pixels,
    so that a shifted spectrum gives shifted features.

    Args:
        x: (B, pixels, channels).
        kernel: width of both convolutions.
        activation: Keras name.
        dropout: probability.
        name: prefix of the layers' names.
        dilation: of both convolutions.
        scale: of what is added to ``x``.

    Returns:
        (B, pixels, channels).
    """
    channels = x.shape[-1]
    options = {"padding": "same", "dilation_rate": dilation}
    y = keras.layers.RMSNormalization(name=f"{name}_norm")(x)
    y = keras.layers.Conv1D(channels, kernel, activation=activation, name=f"{name}_conv1", **options)(y)
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    # small at first: the block begins close to the identity
    start = keras.initializers.VarianceScaling(0.2, "fan_in", "truncated_normal")
    y = keras.layers.Conv1D(channels, kernel, kernel_initializer=start, name=f"{name}_conv2", **options)(y)
    if scale != 1.0:
        y = keras.layers.Rescaling(scale, name=f"{name}_scale")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def attention_block(tokens, attends, heads: int, dropout: float, name: str):
    """Self-attention and a pointwise network, normalised before each, with skips.

    Args:
        tokens: (B, K, D).
        attends: (B, 1, K) bool: lines that may be looked at.
        heads: attention heads.
        dropout: probability.
        name: prefix of the layers' names.

    Returns:
        (B, K, D).
    """
    dim = tokens.shape[-1]
    y = keras.layers.RMSNormalization(name=f"{name}_norm1")(tokens)
    y = keras.layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")(
        y, y, attention_mask=attends
    )
    tokens = keras.layers.Add(name=f"{name}_add1")([tokens, y])
    y = keras.layers.RMSNormalization(name=f"{name}_norm2")(tokens)
    y = keras.layers.Dense(3 * dim, activation="gelu", name=f"{name}_dense1")(y)
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = keras.layers.Dense(dim, name=f"{name}_dense2")(y)
    return keras.layers.Add(name=f"{name}_add2")([tokens, y])
