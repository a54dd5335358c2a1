"""Models as one file for runtimes other than TensorFlow: TFLite and ONNX.

Batch, observed and predicted frames are fixed. Time is written out step by step, because converters
handle lists of tensors badly or not at all, so a file grows with its frames; its weights are stored once.

    context  float32 [B, T, H, W, C] in [0, 1]
    noise    float32 [B, K], drawn from N(0, 1); of stochastic models alone
    ->       video float32 [B, horizon, H, W, C]

The noise is an input since these runtimes have no operations on bits, with which seeds are hashed.
"""

import importlib.util
import logging
import math
import types
import warnings

import numpy as np
import tensorflow as tf

import tfvp
from tfvp import compat, files
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.evaluation.provenance import epoch_of
from tfvp.files import sha256
from tfvp.layers import noise, unroll, winograd
from tfvp.models import input_checks
from tfvp.models.build import load_run
from tfvp.serving import description

OPSET = 18
NEEDED = {"onnx": ("tf2onnx", "onnx")}


class PortableModel(tf.Module):
    """The prediction of a `VideoModel`, of fixed size and without hidden inputs.

    Args:
        model: a built model.
        batch: clips.
        context: observed frames.
        horizon: predicted frames.

    Attributes:
        noise_size: K, the normal numbers that one clip needs; 0 for deterministic models.
        function: `tf.function` of (context), or of (context, noise) where noise_size is not 0.

    Raises:
        UserError: the model cannot observe so many frames or predict so few clips, or sizes below 1.
    """

    def __init__(self, model, batch, context, horizon):
        super().__init__()
        if min(batch, horizon) < 1:
            raise UserError("--batch and --horizon must be at least 1")
        model.check_context(context, "--context")
        input_checks.check_clips(model, batch, f"--batch {batch}")
        self.weights = [compat.backing_variable(v) for v in model.variables]
        # A namespace is not tracked; a tracked model would be converted with its Keras call functions.
        self._held = types.SimpleNamespace(model=model)
        self._horizon = horizon
        self._shape = [batch, context, *model.image_shape]
        self.noise_size = 0
        frames = tf.TensorSpec(self._shape, tf.float32, "context")
        counted = _Input()
        tf.function(lambda context: self._predicted(context, counted)).get_concrete_function(frames)
        self.noise_size = counted.used
        specs = [frames]
        if self.noise_size:
            specs.append(tf.TensorSpec([batch, self.noise_size], tf.float32, "noise"))

        def predict(context, noise=None):
            return {"video": self._predicted(context, _Input(noise))}

        self.function = tf.function(predict, input_signature=specs)

    def draw_noise(self, seed=0):
        """The noise of the future number `seed` of each clip, float32 [B, K].

        With it, the file gives the video that a SavedModel gives for that seed.

        Args:
            seed: an integer, or one per clip.
        """
        seeds = np.broadcast_to(np.asarray(seed, np.int64), self._shape[:1])
        seeds = noise.example_seeds(tf.zeros_like(seeds), seeds)

        @tf.function
        def drawn():
            hashed = _Hashed()
            self._predicted(tf.zeros(self._shape), hashed, seeds)
            return tf.concat(hashed.drawn, axis=1) if hashed.drawn else tf.zeros([self._shape[0], 0])

        return drawn().numpy()

    def _predicted(self, context, source, seeds=None):
        if seeds is None:
            seeds = tf.zeros([self._shape[0], 2], tf.int64) if self._held.model.stochastic else None
        with unroll.written_out(), noise.drawn_by(source), winograd.direct():
            return self._held.model.imagine(self._held.model.observe(context, seed=seeds), self._horizon)[0]


class _Input:
    """Normal numbers from an input [B, K], in the order in which they are asked for; without one, zeros."""

    def __init__(self, numbers=None):
        self.numbers = numbers
        self.used = 0

    def __call__(self, seeds, events):
        batch, results = seeds.shape[0], []
        for _, event_numbers, shape in events:
            count = event_numbers.shape[-1]
            size = count * math.prod(shape)
            part = tf.zeros([batch, size]) if self.numbers is None else self.numbers[:, self.used : self.used + size]
            results.append(tf.reshape(part, [batch, count, *shape]))
            self.used += size
        return results


class _Hashed:
    """Normal numbers as they are hashed otherwise, all of them kept: a list of [B, size]."""

    def __init__(self):
        self.drawn = []

    def __call__(self, seeds, events):
        with noise.drawn_by(None):
            results = noise.normals(seeds, events)
        self.drawn += [tf.reshape(result, [result.shape[0], -1]) for result in results]
        return results


def export(run, file_format, weights="best", batch=1, context=None, horizon=None):
    """Writes a run's model as one file, which computes in float32, and a description beside it.

    Args:
        run: a `tfvp.run.Run`.
        file_format: "tflite" or "onnx".
        weights: "best" or "last".
        batch: clips.
        context, horizon: observed and predicted frames. Default to those of the run's evaluation.

    Returns:
        (the path `export/<run>_b<batch>_c<context>_h<horizon>.<format>`, what stands in the .json beside it).

    Raises:
        UserError: the run has no such weights, or as `save`.
    """
    settings = run.config.eval
    context = settings.open_loop_ctx if context is None else context
    horizon = settings.eval_seq_len - settings.open_loop_ctx if horizon is None else horizon
    # A converter takes bfloat16 without a word, and writes operators that its runtime does not have for it.
    model = load_run(run.path, weights, "float32")
    folder = files.writable_folder(run.path / "export")
    path = folder / f"{run.path.name}_b{batch}_c{context}_h{horizon}.{file_format}"
    facts = save(model, path, file_format, batch, context, horizon)
    file = run.weights_file(weights)
    about = {
        **facts,
        "name": run.path.name,
        "model": run.config.model.name,
        "data": run.config.data.name,
        "preprocessing": description.preprocessing_of(run.config, model).to_dict(),
        "weights": {"which": weights, "sha256": sha256(file), "epoch": epoch_of(run, weights)},
        "version": tfvp.__version__,
        "commit": runs.commit(),
    }
    files.write_json(path.with_name(f"{path.name}.json"), about)
    return path, about


def save(model, path, file_format, batch, context, horizon):
    """Writes a built model as one file.

    Args:
        model: a `VideoModel` that computes in float32.
        path: of the file.
        file_format: "tflite" or "onnx".
        batch, context, horizon: as in `PortableModel`.

    Returns:
        {"format", "batch", "context", "horizon", "noise" (numbers per clip), "operators"}, plain JSON types.

    Raises:
        UserError: a package is missing, or the converter does not take the model.
    """
    missing = [name for name in NEEDED.get(file_format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        what = " and ".join(missing)
        raise UserError(f"--format {file_format} needs {what}; run: pip install 'tfvp[export]'")
    portable = PortableModel(model, batch, context, horizon)
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            content, operators = {"tflite": _tflite, "onnx": _onnx}[file_format](portable)
    except Exception as error:
        # Converters raise many types here, and all of them mean the same to a user.
        raise UserError(
            f"{model.registered_name} cannot be written as {file_format}: {_first_line(error)}; --format saved_model"
            " takes every model"
        ) from error
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return {
        "format": file_format,
        "batch": batch,
        "context": context,
        "horizon": horizon,
        "noise": portable.noise_size,
        "operators": operators,
    }


def _tflite(portable):
    """(the file, which operators it needs): TFLite's own where they suffice, or TensorFlow's as well."""
    sets = {
        "TFLite": [tf.lite.OpsSet.TFLITE_BUILTINS],
        "TFLite and Select TensorFlow": [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS],
    }
    failure = None
    # TFLite knows no call with a state, which a branch may hold. Where tf2onnx is there, branches are resolved first.
    resolving = [_without_branches] if importlib.util.find_spec("tf2onnx") else []
    for name, operators in sets.items():
        for make in (lambda portable: portable.function, *resolving):
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [make(portable).get_concrete_function()], portable
            )
            converter.target_spec.supported_ops = operators
            try:
                return converter.convert(), name
            except Exception as error:
                failure = failure or error
    if not resolving and "STATEFUL_PARTITIONED_CALL" in str(failure):
        raise UserError("its branches must be resolved with tf2onnx; run: pip install 'tfvp[export]'") from failure
    raise failure


def _without_branches(portable):
    """The function of a `PortableModel` with weights as constants and without branches that are never taken."""
    graph, inputs, outputs = _frozen(portable)

    def predict(*arguments):
        (video,) = tf.import_graph_def(graph, dict(zip(inputs, arguments)), outputs, name="")
        return {"video": video}

    return tf.function(predict, input_signature=portable.function.input_signature)


def _onnx(portable):
    """(the file, which operators it needs)."""
    import tf2onnx

    graph, inputs, outputs = _frozen(portable)
    proto, _ = tf2onnx.convert.from_graph_def(
        graph,
        name="tfvp",
        input_names=inputs,
        output_names=outputs,
        opset=OPSET,
        tensors_to_rename={**{name: name.split(":")[0] for name in inputs}, outputs[0]: "video"},
        custom_op_handlers={"Erfc": (_complementary_error_function, [])},
    )
    unknown = sorted({node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx")})
    if unknown:
        raise ValueError(f"ONNX has no operator for {', '.join(unknown)}")
    return proto.SerializeToString(), f"ONNX, opset {OPSET}"


def _frozen(portable):
    """(the graph with weights as constants and without branches that are never taken, its inputs, its outputs).

    A converter cannot see the weights inside of a branch. Which one is taken depends on frame counters
    alone, which are constants here; those behind a branch are known once it is resolved.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tf2onnx import tf_loader

    function = convert_variables_to_constants_v2(portable.function.get_concrete_function(), lower_control_flow=False)
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (function.inputs, function.outputs))
    graph = function.graph.as_graph_def()
    while True:
        with tf.Graph().as_default():
            graph = tf_loader.tf_optimize(inputs, outputs, graph)
        constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
        branching = [n for n in graph.node if n.op in ("If", "StatelessIf") and n.input[0].split(":")[0] in constants]
        for node in branching:
            taken = bool(tf.make_ndarray(constants[node.input[0].split(":")[0]]))
            branch = node.attr["then_branch" if taken else "else_branch"].func
            node.attr["f"].func.CopyFrom(branch)
            for name in ("then_branch", "else_branch", "Tcond", "output_shapes"):
                node.attr.pop(name, None)
            node.op = "PartitionedCall" if node.op == "StatelessIf" else "StatefulPartitionedCall"
            del node.input[0]
        if not branching:
            return graph, inputs, outputs


def _complementary_error_function(graph, node, name, _):
    """1 - erf(x), which ONNX has no operator for; exact GELU needs it."""
    (given,), (result,) = node.input, node.output
    dtype, shape = graph.get_dtype(result), graph.get_shape(result)
    graph.remove_node(node.name)
    error_function = graph.make_node("Erf", [given], dtypes=[dtype], shapes=[shape])
    one = graph.make_const(f"{name}__one", np.array(1.0, np.float32))
    inputs = [one.output[0], error_function.output[0]]
    graph.make_node("Sub", inputs, name=name, outputs=[result], dtypes=[dtype], shapes=[shape])


class _quiet:
    """Context manager: converters log less."""

    def __enter__(self):
        self.before = logging.root.manager.disable
        logging.disable(logging.ERROR)

    def __exit__(self, *_):
        logging.disable(self.before)


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
