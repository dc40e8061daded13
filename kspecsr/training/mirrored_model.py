"""A stage under training on several devices."""

from __future__ import annotations

from kspecsr.training.stage_model import StageModel


class MirroredStageModel(StageModel):
    """The same stage, of which each device sees its share of a batch (TensorFlow backend)."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Loss divided by the number of devices: their gradients are summed."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss / self.distribute_strategy.num_replicas_in_sync

    def _maybe_symbolic_build(self, *_, **__):
        """Nothing: Keras would average a batch over the devices, masks included, to build what is built."""
