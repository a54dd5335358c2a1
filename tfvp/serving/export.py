"""SavedModels for TF Serving: `tfvp export --logdir RUN`.

A version `export/<n>/` of a run has four signatures. They take any batch size and horizon, and
any number of observed frames that the model allows:

    serving_default  context float32 [B, T, H, W, C] in [0, 1], horizon int32 -> video float32
    serving_uint8    the same with frames as uint8
    observe          context -> state_..., tensors that summarize the context
    imagine          state_..., horizon -> video, state_...; call it repeatedly to continue

Beside it lies assets.extra/tf_serving_warmup_requests, with which TF Serving warms the model up.
Stochastic models take another input, `seed` (a scalar int64), wherever frames are observed.
"""

import shutil
import types

import tensorflow as tf

from tfvp import compat, files
from tfvp.layers import noise
from tfvp.models.build import load_run
from tfvp.serving import warmup


def export(run, weights="best"):
    """Writes the next version of a run's SavedModel.

    Args:
        run: a `tfvp.run.Run`.
        weights: "best" or "last".

    Returns:
        The path `export/<n>`.

    Raises:
        UserError: the run has no such weights, or the folder cannot be written.
    """
    model = load_run(run.path, weights)
    folder = files.writable_folder(run.path / "export")
    versions = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    target = folder / str(max(versions, default=0) + 1)
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save(model, temporary)
    settings = run.config.eval
    horizon = settings.eval_seq_len - settings.open_loop_ctx
    warmup.write(temporary, run.path.name, warmup.requests_for(model, settings.open_loop_ctx, horizon))
    temporary.rename(target)
    return target


def save(model, path):
    """Writes a built model as a SavedModel with the signatures of this module."""
    served = ServedModel(model)
    tf.saved_model.save(served, str(path), signatures=served.signatures())


class ServedModel(tf.Module):
    """The inference functions of a `VideoModel`, with flat inputs and outputs.

    Args:
        model: a built model.
    """

    def __init__(self, model):
        super().__init__()
        self.weights = [compat.backing_variable(v) for v in model.variables]
        context = tf.TensorSpec([None, model.fewest_context, *model.image_shape], tf.float32)
        seed = tf.TensorSpec([None, 2], tf.int64) if model.stochastic else None
        observed = tf.function(lambda c, s: model.observe(c, seed=s)).get_concrete_function(context, seed)
        structure = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), observed.structured_outputs)
        specs = dict(_named_leaves("state", structure))
        # A namespace is not tracked; a tracked model would be saved with its Keras call functions.
        self._held = types.SimpleNamespace(model=model, structure=structure, specs=specs)

    def signatures(self):
        """{name: concrete function}."""
        model = self._held.model
        frames = [None, None, *model.image_shape]
        seed = {"seed": tf.TensorSpec([], tf.int64, "seed")} if model.stochastic else {}
        context = tf.TensorSpec(frames, tf.float32, "context")
        pixels = tf.TensorSpec(frames, tf.uint8, "context")
        horizon = tf.TensorSpec([], tf.int32, "horizon")
        state = {name: tf.TensorSpec(s.shape, _served(s.dtype), name) for name, s in self._held.specs.items()}
        trace = lambda function, **inputs: tf.function(function).get_concrete_function(**inputs)  # noqa: E731
        return {
            "serving_default": trace(self.predict, context=context, horizon=horizon, **seed),
            "serving_uint8": trace(self.predict_uint8, context=pixels, horizon=horizon, **seed),
            "observe": trace(self.observe, context=context, **seed),
            "imagine": trace(self.imagine, horizon=horizon, **state),
        }

    def predict(self, context, horizon, seed=None):
        return {"video": self._held.model.imagine(self._observed(context, seed), horizon)[0]}

    def predict_uint8(self, context, horizon, seed=None):
        video = self.predict(tf.cast(context, tf.float32) / 255.0, horizon, seed)["video"]
        return {"video": tf.cast(tf.round(tf.clip_by_value(video, 0.0, 1.0) * 255.0), tf.uint8)}

    def observe(self, context, seed=None):
        return self._flat(self._observed(context, seed))

    def imagine(self, horizon, **state):
        tensors = [tf.cast(state[name], spec.dtype) for name, spec in self._held.specs.items()]
        video, after = self._held.model.imagine(tf.nest.pack_sequence_as(self._held.structure, tensors), horizon)
        return {"video": video, **self._flat(after)}

    def _observed(self, context, seed):
        seeds = None if seed is None else noise.example_seeds(tf.range(tf.shape(context)[0]), seed)
        return self._held.model.observe(context, seed=seeds)

    def _flat(self, state):
        return {name: tf.cast(t, _served(t.dtype)) for name, t in zip(self._held.specs, tf.nest.flatten(state))}


def _served(dtype):
    """The dtype that a state tensor is served in: bfloat16 cannot be written as JSON."""
    return tf.float32 if dtype == tf.bfloat16 else dtype


def _named_leaves(prefix, structure):
    """(name, leaf) pairs of a nested dict, in the order of `tf.nest.flatten`."""
    if not isinstance(structure, dict):
        yield prefix, structure
        return
    for key in sorted(structure):
        yield from _named_leaves(f"{prefix}_{key}", structure[key])
