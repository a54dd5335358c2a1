"""The distribution strategy: the devices of this machine, or those of all workers of a cluster."""

import json
import os
import typing

import tensorflow as tf

from tfvp import compat
from tfvp import devices as machine
from tfvp.errors import UserError

# What TensorFlow raises in the other workers of a cluster when one of them ends.
LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class Worker(typing.NamedTuple):
    """One process of a training run.

    Attributes:
        rank: its number, from 0. Worker 0, the chief, writes the run directory.
        count: number of workers.
    """

    rank: int = 0
    count: int = 1

    @property
    def chief(self):
        return self.rank == 0


def this_worker():
    """The `Worker` that the environment variable TF_CONFIG says this process is.

    TF_CONFIG is what TensorFlow's cluster tools set: {"cluster": {"worker": ["host:port", ...]},
    "task": {"type": "worker", "index": 0}}; there may be a "chief" beside "worker"; it is worker 0 then.

    Raises:
        UserError: it is malformed, or its task is not in its cluster.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return Worker()
    example = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
    try:
        description = json.loads(text)
        cluster, task = description.get("cluster", {}), description.get("task", {})
        chiefs, workers = list(cluster.get("chief", [])), list(cluster.get("worker", []))
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the environment variable TF_CONFIG cannot be read ({error}); write it as {example}") from None
    if not chiefs and not workers:
        return Worker()
    places = {"chief": (chiefs, 0), "worker": (workers, len(chiefs))}
    if kind not in places or not 0 <= index < len(places[kind][0]):
        raise UserError(
            f"TF_CONFIG makes this process {kind} number {index}, but its cluster has {len(chiefs)} chiefs and"
            f" {len(workers)} workers; write it as {example}"
        )
    if len(chiefs) > 1:
        raise UserError(f"TF_CONFIG has {len(chiefs)} chiefs; there can be one, the others are workers")
    return Worker(places[kind][1] + index, len(chiefs) + len(workers))


def make_strategy(devices):
    """The strategy over all GPUs (or `devices` of them, or that many logical CPU devices) of all workers.

    It is a `MirroredStrategy` without a cluster in TF_CONFIG, and a `MultiWorkerMirroredStrategy`
    with one; the latter waits here until all workers have started.

    Raises:
        UserError: there are fewer GPUs than requested, TensorFlow has already started with another
            number of CPU devices, or this stack cannot train on several machines.
    """
    worker = this_worker()
    gpus = tf.config.list_physical_devices("GPU")
    if worker.count > 1:
        if devices > len(gpus) > 0:
            machine.names(devices, "train.devices")
        return _over_workers(worker, gpus[: devices or None], devices)
    names = machine.names(devices, "train.devices")
    if gpus:
        return tf.distribute.MirroredStrategy(names)
    # Collective operations remember the shapes of other strategies of the same process; copies do not.
    return tf.distribute.MirroredStrategy(names, cross_device_ops=tf.distribute.ReductionToOneDevice())


def _over_workers(worker, gpus, devices):
    if compat.KERAS_3:
        raise UserError(
            f"TF_CONFIG names {worker.count} workers, but Keras 3 cannot train on several machines with TensorFlow;"
            " use Python 3.10 or 3.11, for which requirement.txt installs TensorFlow 2.15, or unset TF_CONFIG and"
            " train on the GPUs of one machine"
        )
    if not gpus and devices > 1:
        raise UserError(
            f"train.devices={devices}: with several workers a worker without GPUs is one device; use train.devices=0"
        )
    if gpus:
        tf.config.set_visible_devices(gpus, "GPU")
    return tf.distribute.MultiWorkerMirroredStrategy()


def distribute(strategy, worker, make_batches):
    """Training batches for `fit`; every worker reads only its own part of each.

    Args:
        strategy: what `make_strategy` returned.
        worker: what `this_worker` returned.
        make_batches: called with `worker=(rank, count)`; returns a dataset of that worker's part of the batches.

    Returns:
        A dataset, or a distributed dataset.
    """
    if worker.count == 1:
        return make_batches(worker=(0, 1))
    replicas = strategy.num_replicas_in_sync // worker.count

    def split(batch):
        return tf.data.Dataset.from_tensor_slices(
            {key: tf.reshape(v, [replicas, v.shape[0] // replicas, *v.shape[1:]]) for key, v in batch.items()}
        )

    def of_this_worker(_):
        batches = make_batches(worker=(worker.rank, worker.count))
        return batches.flat_map(split) if replicas > 1 else batches

    return strategy.distribute_datasets_from_function(of_this_worker)


def agree(strategy, worker, epoch, folder):
    """Checks that all workers resume after the same epoch.

    Raises:
        UserError: they do not, since they do not see the same backups.
    """
    if worker.count == 1:
        return

    def mean():
        value = tf.constant(epoch, tf.float32)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)

    average = float(strategy.experimental_local_results(strategy.run(tf.function(mean)))[0])
    if average != epoch:
        raise UserError(
            f"worker {worker.rank} finds {epoch} finished epochs in {folder}, the {worker.count} workers {average:g} on"
            " average; --logdir must be a folder that all workers share"
        )
