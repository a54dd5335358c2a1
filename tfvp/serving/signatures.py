"""What a served model can be asked: the signatures of a SavedModel.

All inputs and outputs have the batch B first, one entry per example, so that a server can stack the
requests of many clients. T frames are observed; `horizon` int32 [B] frames follow.

    serving_default  context float32 [B, T, H, W, C] in [0, 1], horizon, seed
                     -> video float32 [B, max(horizon), H, W, C], frames int32 [B]
    serving_uint8    the same with frames as uint8
    serving_encoded  context string [B, T], PNG or JPEG files, horizon, seed
                     -> video_bytes string [B, max(horizon)], PNG files, frames
    samples          as serving_default with samples int32 [B], futures per context
                     -> video float32 [B, max(samples), max(horizon), H, W, C], frames, samples
    samples_uint8    the same with frames as uint8
    observe          context float32, seed -> state_..., tensors that summarize the context
    observe_more     context float32, state_... -> state_..., after further frames of the same video
    imagine          state_..., horizon, seed -> video float32, frames, state_...; call it again to continue

Only the first `frames` frames of an example are its prediction: what follows up to the longest
horizon of the batch is 0, and an empty string where frames are encoded. Futures beyond an example's
`samples` are 0 too. What an example gets depends on its own inputs, not on the batch.

`seed` int64 [B] is an input of stochastic models alone, which alone have the signatures of samples. It is the
number of a future: `samples` gives those with the numbers seed, seed + 1, ..., which are also those that
`VideoModel.rollout(context, horizon, samples, ids=[0], first_sample=seed)` gives. Its lower 32 bits count.
"""

import types

import tensorflow as tf

from tfvp import compat
from tfvp.layers import noise, winograd
from tfvp.models import input_checks
from tfvp.serving.checks import Checks, Limits, NoChecks


class ServedModel(tf.Module):
    """The inference functions of a `VideoModel`, with flat inputs and outputs.

    Args:
        model: a built model.
        limits: a `tfvp.serving.checks.Limits`.
        checked: whether wrong requests are refused in the graph; some runtimes have no assertions.

    Raises:
        UserError: what the model predicts of a clip depends on the batch.
    """

    def __init__(self, model, limits=None, checked=True):
        super().__init__()
        input_checks.check_clips(model, 1, "a request of one clip")
        self.weights = [compat.backing_variable(v) for v in model.variables]
        frames = tf.TensorSpec([None, None, *model.image_shape], tf.float32)
        seeds = tf.TensorSpec([None, 2], tf.int64) if model.stochastic else None
        observe = _traced(lambda context, seeds: model.observe(context, seed=seeds), frames, seeds)
        structure = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), observe.structured_outputs)
        # A namespace is not tracked; a tracked model would be saved with its Keras call functions.
        self._held = types.SimpleNamespace(
            stochastic=model.stochastic,
            image_shape=model.image_shape,
            structure=structure,
            specs=dict(_named_leaves("state", structure)),
            # Traced once, whatever the number of signatures that call them.
            observe=observe,
            observe_more=_traced(lambda context, state: model.observe(context, state), frames, structure),
            imagine=_traced(
                lambda state, horizon, seeds: model.imagine(state, horizon, seed=seeds),
                structure,
                tf.TensorSpec([], tf.int32),
                seeds,
            ),
            check=Checks(model, limits or Limits()) if checked else NoChecks(),
        )

    @property
    def image_shape(self):
        """(height, width, channels) of the frames."""
        return self._held.image_shape

    def functions(self):
        """{signature: (method, {input: tf.TensorSpec})}."""
        held = self._held
        frames = [None, None, *held.image_shape]
        one_each = {
            name: tf.TensorSpec([None], dtype, name)
            for name, dtype in (("horizon", tf.int32), ("samples", tf.int32), ("seed", tf.int64))
        }
        seed = {"seed": one_each["seed"]} if held.stochastic else {}
        asked = {"horizon": one_each["horizon"], **seed}
        context = {"context": tf.TensorSpec(frames, tf.float32, "context")}
        pixels = {"context": tf.TensorSpec(frames, tf.uint8, "context")}
        encoded = {"context": tf.TensorSpec([None, None], tf.string, "context")}
        state = {name: tf.TensorSpec(s.shape, _served(s.dtype), name) for name, s in held.specs.items()}
        functions = {
            "serving_default": (self.predict, {**context, **asked}),
            "serving_uint8": (self.predict_uint8, {**pixels, **asked}),
            "observe": (self.observe, {**context, **seed}),
            "observe_more": (self.observe_more, {**context, **state}),
            "imagine": (self.imagine, {**state, **asked}),
        }
        if held.image_shape[-1] <= 4:  # PNG has no more channels
            functions["serving_encoded"] = (self.predict_encoded, {**encoded, **asked})
        if held.stochastic:
            samples = {"samples": one_each["samples"]}
            functions["samples"] = (self.draw, {**context, **samples, **asked})
            functions["samples_uint8"] = (self.draw_uint8, {**pixels, **samples, **asked})
        return functions

    def signatures(self):
        """{name: concrete function}."""
        with winograd.direct():  # they are for another machine, maybe with a GPU
            return {
                name: tf.function(method).get_concrete_function(**inputs)
                for name, (method, inputs) in self.functions().items()
            }

    def predict(self, context, horizon, seed=None):
        context = self._held.check.context(context)
        horizon, seed = self._asked(context, horizon, seed)
        return self._future(context, horizon, seed)

    def predict_uint8(self, context, horizon, seed=None):
        context = self._held.check.context(context)
        horizon, seed = self._asked(context, horizon, seed)
        return _in_bytes(self._future(_floats(context), horizon, seed))

    def predict_encoded(self, context, horizon, seed=None):
        context = self._held.check.encoded(context)
        horizon, seed = self._asked(context, horizon, seed)
        outputs = _in_bytes(self._future(_floats(self._decoded(context)), horizon, seed))
        files = tf.io.encode_png(outputs["video"])
        valid = tf.sequence_mask(horizon, tf.shape(files)[1])
        return {"video_bytes": tf.where(valid, files, tf.zeros_like(files)), "frames": outputs["frames"]}

    def draw(self, context, horizon, samples, seed):
        context = self._held.check.context(context)
        horizon, seed = self._asked(context, horizon, seed)
        return self._futures(context, horizon, samples, seed)

    def draw_uint8(self, context, horizon, samples, seed):
        context = self._held.check.context(context)
        horizon, seed = self._asked(context, horizon, seed)
        return _in_bytes(self._futures(_floats(context), horizon, samples, seed))

    def observe(self, context, seed=None):
        context = self._held.check.context(context)
        if seed is not None:
            seed = self._held.check.seed(seed, tf.shape(context)[0])
        return self._flat(self._held.observe(context, _seeds(seed)))

    def observe_more(self, context, **state):
        context = self._held.check.context(context, fewest=1)
        return self._flat(self._held.observe_more(context, self._nested(state, tf.shape(context)[0])))

    def imagine(self, horizon, seed=None, **state):
        state = self._nested(state, tf.shape(horizon)[0])
        horizon, seed = self._asked(tf.nest.flatten(state)[0], horizon, seed)
        video, state = self._imagined(state, horizon, _seeds(seed))
        return {"video": _blanked(video, _valid(horizon)), "frames": tf.identity(horizon), **self._flat(state)}

    def _asked(self, examples, horizon, seed):
        """The horizon and the seed of a request with so many examples, checked."""
        rows = tf.shape(examples)[0]
        horizon = self._held.check.horizon(horizon, rows)
        return horizon, None if seed is None else self._held.check.seed(seed, rows)

    def _future(self, context, horizon, seed):
        seeds = _seeds(seed)
        video, _ = self._held.imagine(self._held.observe(context, seeds), tf.reduce_max(horizon), seeds)
        return {"video": _blanked(video, _valid(horizon)), "frames": tf.identity(horizon)}

    def _futures(self, context, horizon, samples, seed):
        samples = self._held.check.samples(samples, tf.shape(context)[0])
        batch, count, steps = tf.shape(context)[0], tf.reduce_max(samples), tf.reduce_max(horizon)
        seeds = tf.reshape(_sample_seeds(seed, tf.cast(count, tf.int64)), [batch * count, 2])
        state = self._held.observe(tf.repeat(context, count, axis=0), seeds)
        video, _ = self._held.imagine(state, steps, seeds)
        video = tf.reshape(video, [batch, count, steps, *self._held.image_shape])
        valid = tf.sequence_mask(samples, count)[:, :, None] & _valid(horizon)[:, None]
        return {
            "video": _blanked(video, valid),
            "frames": tf.identity(horizon),
            "samples": tf.identity(samples),
        }

    def _imagined(self, state, horizon, seeds):
        """(video up to the longest horizon, the state of each example after its own).

        Time is cut where some example ends; with one horizon for all, that is one piece.
        """
        ends, _ = tf.unique(tf.sort(horizon))
        shape = [None, None, *self._held.image_shape]
        pieces = tf.TensorArray(tf.float32, tf.size(ends), infer_shape=False, element_shape=shape)

        def body(number, begin, state, final, pieces):
            end = ends[number]
            video, state = self._held.imagine(state, end - begin, seeds)
            ended = tf.equal(horizon, end)
            final = tf.nest.map_structure(lambda new, old: tf.where(_over(ended, new), new, old), state, final)
            return number + 1, end, state, final, pieces.write(number, tf.transpose(video, [1, 0, 2, 3, 4]))

        start = (tf.constant(0), tf.constant(0), state, state, pieces)
        *_, final, pieces = tf.while_loop(lambda number, *_: number < tf.size(ends), body, start)
        return tf.transpose(pieces.concat(), [1, 0, 2, 3, 4]), final

    def _decoded(self, files):
        """Frames uint8 [B, T, H, W, C] of image files [B, T]; colours become grey, and grey colours, as in training."""
        channels = self._held.image_shape[-1]

        def decode(file):
            frame = tf.io.decode_image(file, channels=0, expand_animations=False)
            frame.set_shape([None, None, None])
            own = tf.shape(frame)[-1]
            if channels == 1:
                frame = tf.cond(tf.equal(own, 3), lambda: _luma(frame), lambda: frame)
            elif channels == 3:
                frame = tf.cond(tf.equal(own, 1), lambda: tf.repeat(frame, 3, axis=-1), lambda: frame)
            return self._held.check.decoded(frame)

        spec = tf.TensorSpec(self._held.image_shape, tf.uint8)
        frames = tf.map_fn(decode, tf.reshape(files, [-1]), fn_output_signature=spec)
        return tf.reshape(frames, [*tf.unstack(tf.shape(files)), *self._held.image_shape])

    def _nested(self, state, rows):
        """The model's state, of a request with so many examples."""
        held = self._held
        leaves = [tf.cast(held.check.rows(name, state[name], rows), spec.dtype) for name, spec in held.specs.items()]
        return tf.nest.pack_sequence_as(held.structure, leaves)

    def _flat(self, state):
        return {name: tf.cast(t, _served(t.dtype)) for name, t in zip(self._held.specs, tf.nest.flatten(state))}


def _traced(function, *specs):
    return tf.function(function).get_concrete_function(*specs)


def _seeds(seed):
    """The model's seeds [B, 2] of a request's [B]."""
    return None if seed is None else _sample_seeds(seed, 1)[:, 0]


def _sample_seeds(seed, samples):
    """[B, samples, 2]: of the futures number seed, seed + 1, ... that `VideoModel.rollout` draws for the id 0."""
    numbers = seed[:, None] + tf.range(samples, dtype=tf.int64)
    return noise.example_seeds(tf.zeros_like(numbers), numbers)


def _valid(horizon):
    """Which of the longest horizon's frames an example asked for: [B, max(horizon)]."""
    return tf.sequence_mask(horizon, tf.reduce_max(horizon))


def _over(mask, values):
    """A mask [B, ...] with axes of size 1 up to the rank of `values`."""
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (values.shape.rank - mask.shape.rank)], axis=0))


def _blanked(video, valid):
    return tf.where(_over(valid, video), video, tf.zeros_like(video))


def _floats(pixels):
    return tf.cast(pixels, tf.float32) / 255.0


def _in_bytes(outputs):
    video = tf.cast(tf.round(tf.clip_by_value(outputs["video"], 0.0, 1.0) * 255.0), tf.uint8)
    return {**outputs, "video": video}


def _luma(frame):
    """`tfvp.frames.luma` of uint8 [h, w, 3]: uint8 [h, w, 1]."""
    weighted = tf.cast(frame, tf.int32) * tf.constant([19595, 38470, 7471])
    return tf.cast((tf.reduce_sum(weighted, axis=-1, keepdims=True) + 32768) // 65536, tf.uint8)


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
