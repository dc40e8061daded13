"""Devices of a training, and whether it is reproducible."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import keras

_LOGICAL_CPUS = "KSPECSR_LOGICAL_CPUS"  # environment variable; 1: logical CPUs stand in for GPUs, in tests


class DeviceError(ValueError):
    """Devices that are not there; the text says how many are."""


def find_devices() -> None:
    """Load TensorFlow, which then writes to the standard error about itself and GPUs; starts nothing.

    Keras loads it with another backend as well, if it is installed, as soon as it is given data.
    """
    with suppress(ImportError):
        import tensorflow as tf  # seconds

        if keras.backend.backend() == "tensorflow":
            tf.config.list_physical_devices("GPU")


def make_reproducible(seed: int, deterministic: bool) -> None:
    """Seed all random generators; ``deterministic`` also makes operations repeatable, which is slower."""
    keras.utils.set_random_seed(seed)
    if deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # only where it is the backend

        tf.config.experimental.enable_op_determinism()


@contextmanager
def on_devices(count: int) -> Iterator[str]:
    """Models made inside are trained on that many devices; yields a description of these.

    Several devices are GPUs of this machine. Tests without any set ``KSPECSR_LOGICAL_CPUS=1`` in the
    environment: as many logical CPUs then, which share the cores and are slower than one.

    Raises:
        DeviceError: if there are fewer GPUs, or several are asked for with another backend than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        if count > 1:
            raise DeviceError(f"--devices {count}: needs the TensorFlow backend, this is {backend}")
        yield f"1 device, {backend} backend"
        return
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if count == 1:
        yield "1 GPU" if gpus else "CPU"
        return
    if len(gpus) < count and (gpus or os.environ.get(_LOGICAL_CPUS) != "1"):
        raise DeviceError(
            f"--devices {count}: this machine has {len(gpus) or 'no'} GPU(s) that TensorFlow sees; a CPU is "
            "one device, whatever its cores (give no --devices)"
        )
    names = [f"{'GPU' if gpus else 'CPU'}:{i}" for i in range(count)]
    if not gpus:
        _split_cpu(count)
    # NCCL, which sums gradients by default, knows GPUs only.
    strategy = tf.distribute.MirroredStrategy(
        names, cross_device_ops=None if gpus else tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        yield f"{count} GPUs, mirrored" if gpus else f"{count} logical CPUs, mirrored"


def _split_cpu(count: int) -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    # Tried first: to ask for logical devices starts the runtime, after which none can be split.
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise DeviceError(
                f"--devices {count}: no GPU here, and TensorFlow has started with fewer logical CPUs already"
            ) from None
