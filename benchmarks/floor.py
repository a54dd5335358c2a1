"""How quick a training step could be on a GPU, from what it computes alone; nothing is measured on one."""

import concurrent.futures
import dataclasses
import multiprocessing

import numpy as np

from tfvp import compat, config

from . import choice, kernels, models
from .tables import PUBLISHED


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a GPU does in a second in one number format.

    Attributes:
        tensor: multiply-accumulates of matrix products and convolutions, on tensor cores.
        vector: those of depthwise convolutions, which have no use for tensor cores.
        bandwidth: bytes between chip and memory.
        width: bytes of a number.
    """

    tensor: float
    vector: float
    bandwidth: float
    width: int


# NVIDIA, "H100 Tensor Core GPU" data sheet, SXM: dense rates, half of those that it gives with sparsity; a
# multiply-accumulate is two operations. Vector rates are of the architecture's white paper.
H100 = {
    "TF32": Rate(tensor=494.7e12 / 2, vector=66.9e12 / 2, bandwidth=3.35e12, width=4),
    "bf16": Rate(tensor=989.4e12 / 2, vector=133.8e12 / 2, bandwidth=3.35e12, width=2),
}


@dataclasses.dataclass(frozen=True)
class Step:
    """What one training step computes.

    Attributes:
        operations: [N, 3]: whether it is depthwise, multiply-accumulates, and numbers read and written, of every
            convolution and matrix product.
        updated: float32 numbers that the optimizer reads and writes: gradients, weights and its state.
        kernels: operations that are launches on a GPU, as TensorFlow runs them on a CPU.
    """

    operations: np.ndarray
    updated: int
    kernels: int

    @property
    def macs(self) -> float:
        """Multiply-accumulates."""
        return float(self.operations[:, 1].sum())

    def bytes_moved(self, width: int) -> float:
        """Bytes that must be read or written by operations that multiply, and by the update."""
        return float(self.operations[:, 2].sum()) * width + 4.0 * self.updated

    def floor(self, rate: Rate) -> float:
        """Seconds below which no step can be: each operation takes its arithmetic or its traffic, the longer.

        All else (norms, activations, losses) is taken to be fused into these operations, for nothing.
        """
        depthwise, macs, numbers = self.operations.T
        arithmetic = macs / np.where(depthwise > 0, rate.vector, rate.tensor)
        return float(np.maximum(arithmetic, numbers * rate.width / rate.bandwidth).sum()) + (
            4.0 * self.updated / rate.bandwidth
        )


def scaled(one: np.ndarray, two: np.ndarray, batch: int) -> np.ndarray:
    """The operations of a batch, from those of one and of two clips: all sizes are linear in the batch."""
    if one.shape != two.shape or (one[:, 0] != two[:, 0]).any():
        raise ValueError("a step of two clips makes other operations than one of one clip")
    return one + (batch - 1) * (two - one) * np.array([0.0, 1.0, 1.0])


def step_of(path: str) -> tuple[int, Step]:
    """(the published batch size, the step of such a batch) of a configuration."""
    models.limit_memory()
    from tfvp import quiet

    quiet.import_tensorflow()
    import tensorflow as tf

    from tfvp.models.build import build_model
    from tfvp.training import arithmetic, loop

    loaded = config.load(path)
    model = build_model(loaded, None, 1)
    loop.compile_model(loaded, model, loaded.train.steps_per_epoch or 1000)

    batches = [models.example_batch(loaded, model, clips) for clips in (1, 2)]
    data = iter(tf.data.Dataset.from_tensors(batches[0]).repeat())
    model.make_train_function(force=True)
    model.train_function(data)
    launches = sum(kernels.count(lambda: float(model.train_function(data)["loss"])).values())
    one, two = (
        np.array([("Depthwise" in kind, macs, n) for kind, macs, n in arithmetic.of_a_step(model, batch).sizes], float)
        for batch in batches
    )
    weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    state = sum(int(np.prod(v.shape)) for o in model.optimizers for v in compat.optimizer_variables(o))
    batch = loaded.train.batch_size
    return batch, Step(scaled(one, two, batch), weights + 2 * (weights + state), launches)


def table(steps: dict[str, tuple[int, Step]]) -> list[str]:
    """Rows of Markdown."""
    names = ["configuration", "batch", "GMAC", "GB moved, bf16", "MAC per byte", "kernels"]
    names += [f"{name} ms" for name in H100] + ["5 us a kernel, ms"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for path, (batch, step) in steps.items():
        moved = step.bytes_moved(2)
        floors = " | ".join(f"{1e3 * step.floor(rate):.3g}" for rate in H100.values())
        lines.append(
            f"| {path} | {batch} | {step.macs / 1e9:,.4g} | {moved / 1e9:.3g} | {step.macs / moved:.0f}"
            f" | {step.kernels:,} | {floors} | {5e-3 * step.kernels:.3g} |"
        )
    return lines


def run(options):
    """Prints the table for the published configurations."""
    paths = choice.chosen([path for path, _ in PUBLISHED], options.only)
    import tensorflow as tf

    steps = {}
    for path in paths:  # in a process of its own each, as TensorFlow gives no memory back
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                steps[path] = pool.submit(step_of, path).result()
            except (MemoryError, tf.errors.ResourceExhaustedError):
                print(f"{path} could not be counted: a step of two clips needs more memory than is free", flush=True)
                continue
        print(table({path: steps[path]})[-1], flush=True)
    print("\n".join(["", *table(steps)]))
