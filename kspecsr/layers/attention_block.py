"""Transformer layers across line tokens (paper section 3.3)."""

from __future__ import annotations

import keras


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
