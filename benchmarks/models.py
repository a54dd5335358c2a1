"""Train-step and rollout speed of models, beside the rate that convolutions reach on this machine.

    python -m benchmarks.models                                  # small models of every kind
    python -m benchmarks.models --config configs/demo.yml --batch-size 16 --horizons 10 100 1000

Everything in a table is measured in one process, one after the other, so that ratios mean
something; absolute times depend on what else the machine does.
"""

import argparse
import multiprocessing
import resource
import time

from tfvp import cli

CONFIGS = ["configs/demo.yml", "configs/convlstm/mmnist.yml", "configs/convlstm/mmnist_openstl.yml"]


def convolution_rate():
    """Multiply-accumulates per second of a large convolution, forward, in units of 1e9."""
    import tensorflow as tf

    image, kernel = tf.random.normal([16, 32, 32, 128]), tf.random.normal([5, 5, 128, 256])
    run = tf.function(lambda: tf.reduce_sum(tf.nn.conv2d(image, kernel, 1, "SAME")))
    operations = 16 * 32 * 32 * 25 * 128 * 256
    run().numpy()
    return operations / best_time(lambda: run().numpy(), 5) / 1e9


def best_time(call, repeats):
    """The shortest of `repeats` calls, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def peak_memory():
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path, batch_size, horizons, overrides, queue):
    """Puts a table row for one configuration into `queue`; runs in a process of its own."""
    import numpy as np
    import tensorflow as tf

    from tfvp import config, optimizers, strategies, training

    loaded = config.load(path, overrides)
    settings = loaded.train
    batch_size = batch_size or settings.batch_size
    size = loaded.data.image_size
    shape = (*((size, size) if isinstance(size, int) else size), loaded.data.channels)
    strategy = strategies.make_strategy(0)
    with strategy.scope():
        model = training.build_model(loaded, shape, batch_size)
        optimizer = optimizers.build_optimizer(settings, 1000, 1000, model.updates_per_batch)
        model.compile(optimizer=optimizer, clip_norm=settings.clip_norm, jit_compile=settings.xla)
    video = np.random.default_rng(0).uniform(size=(batch_size, settings.seq_len, *shape)).astype(np.float32)
    batch = {"video": video, "id": np.arange(batch_size)}
    data = iter(tf.data.Dataset.from_tensors(batch).repeat())
    model.make_train_function()
    began = time.perf_counter()
    model.train_function(data)
    first = time.perf_counter() - began

    def step():
        logs = model.train_function(data)
        float(logs["loss"])

    seconds = best_time(step, 3)
    row = {
        "config": path,
        "parameters": int(sum(np.prod(v.shape) for v in model.weights)),
        "batch": batch_size,
        "first step s": first,
        "step s": seconds,
        "train frames/s": batch_size * settings.seq_len / seconds,
        "train MB": peak_memory(),
    }
    context = video[:1, : loaded.eval.open_loop_ctx]
    for horizon in horizons:

        def roll(horizon=horizon):
            for chunk in model.rollout(context, horizon, chunk=50):
                chunk.numpy()

        roll()
        row[f"rollout frames/s, {horizon}"] = horizon / best_time(roll, 2)
        row[f"MB, {horizon}"] = peak_memory()
    queue.put(row)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description="Time models on this machine.")
    parser.add_argument("--config", nargs="+", default=CONFIGS)
    parser.add_argument("--batch-size", type=int, default=0, help="clips per step; 0 = what the config says")
    parser.add_argument("--horizons", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--set", dest="overrides", nargs="+", default=[])
    options = parser.parse_args()
    print(f"convolutions, forward: {convolution_rate():.0f} GMAC/s (5x5, 128 -> 256 channels, 16 x 32 x 32)")
    context = multiprocessing.get_context("spawn")
    for path in options.config:
        queue = context.Queue()
        process = context.Process(
            target=measure, args=(path, options.batch_size, options.horizons, options.overrides, queue)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{path}: the measurement ended with status {process.exitcode}")
        print(
            "  ".join(
                f"{key}: {value if isinstance(value, str) else f'{value:.4g}'}" for key, value in queue.get().items()
            )
        )


if __name__ == "__main__":
    cli.run(main)
