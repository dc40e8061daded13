"""Which line a token stands for."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("kspecsr")
class LineIdentity(keras.layers.Layer):
    """Adds a learned vector per line: doublet partners look alike but are not (paper section 3.3).

    Input shape:
        (B, K, D).

    Output shape:
        The same.
    """

    def build(self, input_shape):
        """One vector per line."""
        self.embedding = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.3),
            name="embedding",
        )

    def call(self, tokens):
        """See the class."""
        return tokens + self.embedding
