"""The distribution strategy: the devices of this machine, or those of all workers of a cluster."""

import json
import os
import shutil
import typing

import numpy as np
import tensorflow as tf

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


def join_slurm(port=12345):
    """Sets TF_CONFIG from the variables of a Slurm job step, a worker for each of its tasks.

    With several tasks on a machine its GPUs are shared out in order (CUDA_VISIBLE_DEVICES). To be
    called before TensorFlow starts.

    Args:
        port: of the first task of a machine; the others take the ports after it.

    Raises:
        UserError: this process was not started by `srun`, or there are more tasks than GPUs.
    """
    # TensorFlow's resolver counts GPUs by nvidia-smi, which fails where there is none.
    gpus = {} if shutil.which("nvidia-smi") else {"gpus_per_node": 4096, "gpus_per_task": 1, "auto_set_gpu": False}
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=port, **gpus)
        cluster = resolver.cluster_spec().as_dict()
        kind, index = resolver.get_task_info()
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"--cluster slurm: the job step cannot be read from Slurm's variables ({error}); start tfvp with srun"
        ) from None
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def make_strategy(devices, memory_growth=False):
    """The strategy over all GPUs (or `devices` of them, or that many logical CPU devices) of all workers.

    It is a `MirroredStrategy` without a cluster in TF_CONFIG, and a `MultiWorkerMirroredStrategy`
    with one; the latter waits here until all workers have started. GPUs that are not used stay
    untouched.

    Args:
        devices: how many devices of each worker; 0 = all GPUs, or one CPU.
        memory_growth: whether TensorFlow takes GPU memory as it needs it instead of all at once.

    Raises:
        UserError: there are fewer GPUs than requested, or TensorFlow has already started with another
            number of CPU devices.
    """
    worker = this_worker()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        machine.check(devices, len(gpus), "train.devices")
        _take(gpus[: devices or None], memory_growth)
    if worker.count > 1:  # which must be set up before anything asks for logical devices
        if not gpus and devices > 1:
            raise UserError(
                f"train.devices={devices}: with several workers a worker without GPUs is one device; use"
                " train.devices=0"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    names = machine.names(devices, "train.devices")
    if gpus:
        return tf.distribute.MirroredStrategy(names)
    # Collective operations remember the shapes of other strategies of the same process; copies do not.
    return tf.distribute.MirroredStrategy(names, cross_device_ops=tf.distribute.ReductionToOneDevice())


def _take(gpus, memory_growth):
    """Makes these GPUs the only visible ones, if TensorFlow has not started yet."""
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, memory_growth)
    except RuntimeError:
        if len(tf.config.list_logical_devices("GPU")) < len(gpus):
            raise UserError(
                f"train.devices={len(gpus)}: TensorFlow has already started with fewer GPUs; start a new process"
            ) from None


def distribute(strategy, worker, make_batches):
    """Training batches for the strategy's replicas; every worker reads only its own part of each.

    Args:
        strategy: what `make_strategy` returned.
        worker: what `this_worker` returned.
        make_batches: called with `worker=(rank, count)`; returns a dataset of that worker's part of the batches.

    Returns:
        A dataset for `strategy.run`.
    """
    if worker.count == 1:
        return strategy.experimental_distribute_dataset(make_batches(worker=(0, 1)))
    replicas = strategy.num_replicas_in_sync // worker.count

    def of_this_worker(_):
        return split_among(make_batches(worker=(worker.rank, worker.count)), replicas)

    return strategy.distribute_datasets_from_function(of_this_worker)


def split_among(batches, replicas):
    """Cuts each batch of a dataset into `replicas` equal batches, one after the other."""
    if replicas == 1:
        return batches

    def split(batch):
        return tf.data.Dataset.from_tensor_slices(
            {key: tf.reshape(v, [replicas, v.shape[0] // replicas, *v.shape[1:]]) for key, v in batch.items()}
        )

    return batches.flat_map(split)


class Gather:
    """Gives every worker the numbers of all workers. A collective: all workers must call it, in the same order.

    Args:
        strategy: what `make_strategy` returned.
        worker: what `this_worker` returned.
    """

    def __init__(self, strategy, worker):
        self.strategy = strategy
        self.worker = worker
        self._sum = tf.function(self._summed)

    def __call__(self, value):
        """[the value of worker 0, of worker 1, ...] of whole numbers below 2**53."""
        row = np.zeros(self.worker.count)
        row[self.worker.rank] = value
        return [int(number) for number in self._total(row)]

    def rows(self, parts, numbers, count):
        """Puts tables together of which each worker has some rows.

        Args:
            parts: {name: float [n, ...]}, this worker's rows.
            numbers: int [n], which rows of the whole they are; no row is another worker's, too.
            count: rows of the whole.

        Returns:
            {name: float64 [count, ...]}, the same for all workers.
        """
        whole = {name: np.zeros([count, *part.shape[1:]]) for name, part in parts.items()}
        for name, part in parts.items():
            whole[name][numbers] = part
        ends = np.cumsum([table.size for table in whole.values()])[:-1]
        tables = np.split(self._total(np.concatenate([table.ravel() for table in whole.values()])), ends)
        return {name: part.reshape(table.shape) for (name, table), part in zip(whole.items(), tables)}

    def _total(self, values):
        """The sum over workers of float64 [n]."""
        if self.worker.count == 1:
            return values
        total = self.strategy.run(self._sum, args=(tf.constant(values),))
        replicas = self.strategy.num_replicas_in_sync // self.worker.count
        return self.strategy.experimental_local_results(total)[0].numpy() / replicas

    @staticmethod
    def _summed(row):
        # The strategy takes the device to send the sum to from the tensor; an argument has none.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(row))


def agree(gather, step, digest, folder):
    """Checks that all workers resume at the same step and train on the same clips.

    Args:
        gather: a `Gather`.
        step: steps that this worker has found done.
        digest: a whole number below 2**48 that stands for this worker's clips.
        folder: of the backups.

    Raises:
        UserError: they do not.
    """
    worker = gather.worker
    steps, digests = gather(step), gather(digest)
    if len(set(steps)) > 1:
        raise UserError(
            f"worker {worker.rank} finds {step} finished steps in {folder}, the workers' numbers are"
            f" {', '.join(map(str, steps))}; --logdir must be a folder that all workers share"
        )
    if len(set(digests)) > 1:
        others = [str(rank) for rank, other in enumerate(digests) if other != digest]
        raise UserError(
            f"worker {worker.rank} does not have the clips of the others, {' and '.join(others)}; data.root must hold"
            " the same files on all machines"
        )
