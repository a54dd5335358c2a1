"""The devices of this machine that work may be divided over."""

import functools
import pathlib

import tensorflow as tf

from tfvp.errors import UserError


@functools.cache
def avx512():
    """Whether the processor has AVX-512, as far as Linux tells; False elsewhere."""
    try:
        return "avx512f" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def names(count=0, option="devices"):
    """Names of GPUs, or of logical CPU devices on a machine without GPUs.

    Args:
        count: how many; 0 = all GPUs, or one CPU device. A CPU is divided into as many logical devices.
        option: what the count is called in messages.

    Returns:
        ["GPU:0", ...] or ["CPU:0", ...].

    Raises:
        UserError: there are fewer GPUs, or TensorFlow has already started with fewer CPU devices.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if count < 0:
        raise UserError(f"{option}={count} must be at least 0")
    check(count, len(gpus), option)
    if gpus:
        return [f"GPU:{i}" for i in range(count or len(gpus))]
    count = max(1, count)
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        if count > 1:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        pass
    if len(tf.config.list_logical_devices("CPU")) < count:
        raise UserError(f"{option}={count}: TensorFlow has already started with fewer CPU devices; start a new process")
    return [f"CPU:{i}" for i in range(count)]


def check(count, gpus, option="devices"):
    """Refuses more GPUs than there are.

    Raises:
        UserError: `count` is larger than the number of GPUs, where there are any.
    """
    if count > gpus > 0:
        raise UserError(f"{option}={count}, but there are only {gpus} GPUs; use at most {gpus}, or 0 for all")
