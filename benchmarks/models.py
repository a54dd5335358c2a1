"""What one configuration costs on this machine: size, arithmetic, times, memory, retraces.

Each configuration is measured in a process of its own, so that peak memory is its own, and all
of them one after the other.
"""

import contextlib
import multiprocessing
import resource
import time

from . import kernels

CHUNK = 10  # frames per graph call of a rollout
PATIENCE = 45.0  # seconds; a rollout that would take longer is left out
# What runs in Python only while a training step is traced.
TRACED = ("train_step", "frame_step", "chunk_step", "before_first_chunk")
REPEATS = 3


def limits():
    """{"convolution", "matrix"}: 1e9 multiply-accumulates per second that this machine reaches, forward."""
    import tensorflow as tf

    image, kernel = tf.random.normal([16, 32, 32, 128]), tf.random.normal([5, 5, 128, 256])
    square = tf.random.normal([2048, 2048])
    convolve = tf.function(lambda: tf.reduce_sum(tf.nn.conv2d(image, kernel, 1, "SAME")))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(square, square)))
    work = {"convolution": (convolve, 16 * 32 * 32 * 25 * 128 * 256), "matrix": (multiply, 2048**3)}
    rates = {}
    for name, (call, operations) in work.items():
        call().numpy()
        rates[name] = operations / best_time(lambda call=call: call().numpy(), 5) / 1e9
    return rates


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


def example_batch(loaded, model, batch_size):
    """A batch of noise of the shapes and ranges that the model is trained on."""
    import numpy as np

    random = np.random.default_rng(0)
    video = random.uniform(size=(batch_size, loaded.train.seq_len, *model.image_shape)).astype(np.float32)
    batch = {"video": video, "id": np.arange(batch_size)}
    if "labels" in model.needs:
        video[..., 3] = np.floor(video[..., 3] * model.classes) / 255.0
    for key in model.needs:
        if key.startswith("flow"):
            batch[key] = random.normal(size=(*video.shape[:-1], 2)).astype(np.float32)
    return batch


def measure(path, batch_size, horizons, overrides, replicas, started, queue):
    """Puts a row of measurements of one configuration into `queue`; runs in a process of its own.

    A batch size of 0 is the configuration's own, the published one.
    """
    limit_memory()
    from tfvp import quiet

    quiet.import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from tfvp import config
    from tfvp.models.build import build_model
    from tfvp.training import arithmetic, loop, strategies

    loaded = config.load(path, overrides)
    settings = loaded.train
    batch_size = batch_size or settings.batch_size
    strategy = strategies.make_strategy(replicas)
    with strategy.scope():
        model = build_model(loaded, None, batch_size // replicas)
        loop.compile_model(loaded, model, settings.steps_per_epoch or 1000)
    row = {"parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables), "batch": batch_size}
    traces = _count_traces(model)
    data = tf.data.Dataset.from_tensors(example_batch(loaded, model, batch_size)).repeat()
    data = iter(strategy.experimental_distribute_dataset(data) if replicas > 1 else data)
    model.make_train_function(force=True)

    def step():
        float(model.train_function(data)["loss"])

    began = time.perf_counter()
    with kernels.recorded_noise() as draws:
        step()
    row["first step s"], row["start to first step s"] = time.perf_counter() - began, time.time() - started
    traced = len(traces)
    row["step s"] = best_time(step, REPEATS)
    row["train frames/s"] = batch_size * settings.seq_len / row["step s"]
    row["train MB"] = peak_memory()
    row["kernels"] = sum(kernels.count(step).values())
    again = kernels.repeated(draws)
    row["noise s"] = 0.0 if again is None else _noise_time(again)
    row["retraces"] = len(traces) - traced
    if replicas == 1:
        context = example_batch(loaded, model, 1)["video"][:, : loaded.eval.open_loop_ctx]
        row["rollout"] = _rollouts(model, context, horizons)
        graphs = (model.graph(name, None) for name in ("observe", "imagine"))  # made by the rollouts
        row["retraces"] += sum(graph.experimental_get_tracing_count() - 1 for graph in graphs)
        operations = arithmetic.of_a_step(model, example_batch(loaded, model, batch_size))
        row["MACs"], row["alone s"] = operations.macs, operations.seconds_alone()
    queue.put(row)


def _noise_time(draw):
    """Seconds that the draws of a step take by themselves."""

    def call():
        for part in draw():
            (part[-1] if isinstance(part, list) else part).numpy()

    call()
    return best_time(call, REPEATS)


def limit_memory(share=0.9):
    """Makes this process fail, rather than the machine run out, when it asks for more than a share of what is free."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (int(share * free), resource.RLIM_INFINITY))


def _count_traces(model):
    """A list that grows by an entry whenever a part of the training step is traced."""
    traces = []

    def noting(method):
        def traced(*args, **kwargs):
            traces.append(method.__name__)
            return method(*args, **kwargs)

        return traced

    for name in TRACED:
        if hasattr(model, name):
            object.__setattr__(model, name, noting(getattr(model, name)))
    return traces


def _rollouts(model, context, horizons):
    """{horizon: (frames per second, peak MB so far)}, up to the first that would take too long."""

    def roll(horizon):
        for chunk in model.rollout(context, horizon, chunk=CHUNK):
            chunk.numpy()

    roll(CHUNK)
    found, rate = {}, None
    for horizon in horizons:
        if rate and horizon / rate > PATIENCE:
            break
        seconds = best_time(lambda horizon=horizon: roll(horizon), 2 if horizon <= 100 else 1)
        rate = horizon / seconds
        found[horizon] = (rate, peak_memory())
    return found


def row_of(path, batch_size, horizons, overrides=(), replicas=1):
    """`measure` in a new process, or None where it failed."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (path, batch_size, horizons, list(overrides), replicas, time.time(), queue)
    process = context.Process(target=measure, args=arguments)
    process.start()
    row = None
    while row is None and (process.is_alive() or not queue.empty()):
        with contextlib.suppress(Exception):
            row = queue.get(timeout=1.0)
    process.join()
    return row
