"""A trained model as it is published: its files, their manifest, and a model card of measured figures."""
