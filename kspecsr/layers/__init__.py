"""Layers of the networks: `keras.ops` only, so that they run on every Keras backend; all registered."""
