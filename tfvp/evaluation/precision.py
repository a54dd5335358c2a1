"""Full float32 where metrics are computed.

GPUs since Ampere round the inputs of float32 products to TF32's ten bits unless they are told otherwise. A model may
have been trained so, but LPIPS, FVD and SSIM are compared between papers to more digits than that leaves.
"""

import contextlib
import threading

import tensorflow as tf

_execution = tf.config.experimental


class _Gate:
    """Threads that measure and threads that predict take turns, as the switch is one for the whole process."""

    def __init__(self):
        self.changed = threading.Condition()
        self.inside = 0
        self.measuring = False
        self.enabled = True

    def enter(self, measuring):
        with self.changed:
            while self.inside and self.measuring != measuring:
                self.changed.wait()
            if not self.inside:
                self.enabled = _execution.tensor_float_32_execution_enabled()
                self.measuring = measuring
                if measuring:
                    _execution.enable_tensor_float_32_execution(False)
            self.inside += 1

    def leave(self):
        with self.changed:
            self.inside -= 1
            if not self.inside:
                if self.measuring:
                    _execution.enable_tensor_float_32_execution(self.enabled)
                self.changed.notify_all()


_gate = _Gate()


@contextlib.contextmanager
def measuring():
    """Context manager: TF32 is off for whatever runs inside, and as it was again afterwards."""
    _gate.enter(True)
    try:
        yield
    finally:
        _gate.leave()


@contextlib.contextmanager
def predicting():
    """Context manager: no other thread is inside `measuring` meanwhile."""
    _gate.enter(False)
    try:
        yield
    finally:
        _gate.leave()
