"""How many kernels a graph call runs, from TensorFlow's profiler, and how long a step's noise takes alone."""

import collections
import contextlib
import pathlib
import tempfile

ROUNDS = 3  # in which a call is counted

# Bookkeeping of graphs, which computes nothing and is no launch on a GPU.
BOOKKEEPING = {
    "Arg",
    "Assert",
    "AssignAddVariableOp",
    "Const",
    "Enter",
    "Exit",
    "ExpandDims",
    "Identity",
    "IdentityN",
    "LoopCond",
    "Merge",
    "NextIteration",
    "NoOp",
    "Placeholder",
    "ReadVariableOp",
    "Reshape",
    "Retval",
    "Shape",
    "ShapeN",
    "Size",
    "Squeeze",
    "Switch",
    "VarHandleOp",
}


def count(call):
    """{kind of operation: how often `call` runs it}, without bookkeeping.

    A graph's operations are counted as they are run, once for each turn of a loop, after
    TensorFlow's own rewriting. On a GPU most of them are one kernel launch each, unless XLA fuses them.

    Args:
        call: a function that calls a graph, traced already. It is called a few times, as the profiler misses events.
    """
    rounds = [_counted(call) for _ in range(ROUNDS)]
    return {kind: max(one[kind] for one in rounds) for kind in set().union(*rounds) - BOOKKEEPING}


def _counted(call):
    """A `collections.Counter` of all that the profiler sees of one call."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    kinds = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
        with tf.profiler.experimental.Profile(folder, options):
            call()
        space = xplane_pb2.XSpace()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # An operation's event is "<name in the graph>:<kind>"; others have no kind, or one of C++.
                name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and not name.endswith(":") and " " not in name and kind.isidentifier():
                    kinds[kind.lstrip("_")] += 1
    return kinds


@contextlib.contextmanager
def recorded_noise():
    """Yields a list to which every draw of a step is added while the step is traced: (function, arguments)."""
    from tfvp.layers import noise

    draws, originals = [], {name: getattr(noise, name) for name in ("normals", "uniform")}

    def noting(name):
        def noted(seeds, *arguments, **options):
            draws.append((originals[name], seeds.shape[0], arguments, options))
            return originals[name](seeds, *arguments, **options)

        return noted

    for name in originals:
        setattr(noise, name, noting(name))
    try:
        yield draws
    finally:
        for name, function in originals.items():
            setattr(noise, name, function)


def repeated(draws):
    """A graph that makes recorded draws again, by themselves; or None if there are none.

    Args:
        draws: from `recorded_noise`. Those of unknown batch, and events numbered by a tensor of the
            traced graph, are made for one example and as many events from 0 on.
    """
    import tensorflow as tf

    def event(stream, numbers, shape):
        count = numbers.shape[-1] if tf.is_tensor(numbers) else len(numbers)
        return stream, tf.range(count or 1, dtype=tf.int64), shape

    calls = []
    for function, batch, arguments, options in draws:
        if arguments and isinstance(arguments[0], list):
            arguments = ([event(*entry) for entry in arguments[0]],)
        calls.append((function, tf.zeros([batch or 1, 2], tf.int64), arguments, options))
    if not calls:
        return None
    return tf.function(lambda: [f(seeds, *arguments, **options) for f, seeds, arguments, options in calls])
