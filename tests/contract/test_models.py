"""The checks that every registered model gets, without a line of test code of its own."""

import functools
import gc
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import compat, registry
from tfvp.errors import UserError
from tfvp.evaluation import scoring
from tfvp.models import named_weights
from tfvp.models.base import VideoModel

pytestmark = pytest.mark.usefixtures("plain_graphs")

VARIANTS = {
    (name, label): (f"{name}{'-' + label if label else ''}", options)
    for name in registry.names("model")
    for label, options in registry.lookup("model", name).small_variants.items()
}
# Of every model, for what is the same code in all of its variants. They are the first of all cases: pytest keeps the
# case of tests that take some of them and of those that take all by its number.
FIRST_VARIANTS = list({name: case for (name, _), (case, _) in reversed(VARIANTS.items())}.values())[::-1]
CASES = {case: (name, options) for (name, _), (case, options) in VARIANTS.items()}
CASES = {case: CASES[case] for case in [*FIRST_VARIANTS, *(case for case in CASES if case not in FIRST_VARIANTS)]}
# Of every file of models, for what takes long and is the same code in all models of a file.
OF_EACH_FILE = list({registry.lookup("model", CASES[case][0]).__module__: case for case in FIRST_VARIANTS}.values())
# Most rollouts are FUTURE frames long, or in chunks of as many, as each length is another graph to trace.
BATCH, FUTURE = 4, 4
# Other graphs of the same function add up in another order; perturbed weights amplify what is fed back.
GRAPHS = 5e-5


class Case:
    """A small model, built where it is asked for, with a batch that fits it."""

    def __init__(self, name, options):
        self.cls, self.options = registry.lookup("model", name), options
        self.recompute = False
        self.shape = self.cls.small_image_shape
        keras.mixed_precision.set_global_policy("float32")
        self.unbuilt = self.cls(self.shape, **self.options)
        self.batch = self.batch_of(BATCH)
        self.context = self.unbuilt.fewest_context
        while self.context < 4:
            self.context += self.unbuilt.context_multiple
        self.video = self.batch["video"]

    @functools.cached_property
    def model(self):
        keras.utils.set_random_seed(0)
        return self.make()

    def make(self):
        model = self.cls(self.shape, **self.options)
        model.recompute = self.recompute
        model.build_on({k: tf.TensorSpec([2, *v.shape[1:]], v.dtype) for k, v in self.batch_of(2).items()})
        fixed = [v for part in model.pretrained for v in getattr(model, part).variables]
        for variable in [*model.trainable_variables, *fixed]:  # heads near zero would hide what is behind them
            variable.assign(variable + 0.1 * tf.random.stateless_normal(variable.shape, [1, 2]))
        return model

    def batch_of(self, size):
        model = self.unbuilt
        frames = -(-max(4, model.fewest_context) // model.context_multiple) * model.context_multiple + FUTURE
        rng = np.random.default_rng(0)
        video = rng.uniform(size=(size, frames, *self.shape)).astype(np.float32)
        if "labels" in model.needs:
            video[..., 3] = rng.integers(0, 3, video.shape[:-1]) / 255
        flows = {key: rng.normal(size=(*video.shape[:-1], 2)) for key in model.needs if key.startswith("flow")}
        flows = {key: tf.constant(flow, tf.float32) for key, flow in flows.items()}
        return {"video": tf.constant(video), "id": tf.range(size, dtype=tf.int64), **flows}


def on_both_stacks(some, cases):
    """`cases` as parameters of a test: `some` of them on both stacks, the others on the current one."""
    return [case if case in some else pytest.param(case, marks=pytest.mark.current_stack) for case in cases]


@pytest.fixture(scope="module", params=on_both_stacks(FIRST_VARIANTS, CASES), ids=str)
def case(request):
    made = Case(*CASES[request.param])
    yield made
    vars(made).pop("model", None)  # graphs and variables, which are in cycles
    gc.collect()


of_first_variants = pytest.mark.parametrize("case", FIRST_VARIANTS, ids=str, indirect=True, scope="module")


def close(a, b, tolerance=1e-5):
    """Equal up to rounding, which grows with the largest value and is fed back in rollouts."""
    for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        largest = max(1.0, float(np.abs(y).max(initial=0.0)))
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * largest)


def seeds_for(model, count):
    return tf.stack([tf.range(count, dtype=tf.int64), tf.ones([count], tf.int64)], 1) if model.stochastic else None


def test_is_a_registered_video_model_with_small_variants(case):
    assert issubclass(case.cls, VideoModel)
    assert case.cls.small_variants and case.cls.paper and case.cls.__doc__


def layers_in(value):
    """The layers that an attribute holds, at any depth of lists and dicts."""
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from layers_in(part)


def test_every_layer_s_weights_are_the_model_s(case):
    """Keras 2 does not track layers under a name that the class has, too; they would be in no file and no backup."""
    weights = {id(compat.backing_variable(v)) for v in case.model.variables}
    for attribute, value in vars(case.model).items():
        if not attribute.startswith("_"):
            for layer in layers_in(value):
                assert all(id(compat.backing_variable(v)) in weights for v in layer.variables), attribute


def test_weights_have_names_and_come_back(case, tmp_path):
    variables = named_weights.named(case.model)
    weights = [v for v in case.model.variables if "seed_generator" not in getattr(v, "path", v.name)]
    metrics = {id(compat.backing_variable(v)) for metric in case.model.metrics for v in metric.variables}
    assert {id(compat.backing_variable(v)) for v in variables.values()} == {
        id(compat.backing_variable(v)) for v in weights
    } - metrics
    named_weights.save(case.model, tmp_path / "x.weights.h5")
    arrays = named_weights.read(tmp_path / "x.weights.h5")
    assert list(arrays) == list(variables)
    before = {name: np.array(v) for name, v in variables.items()}
    for variable in variables.values():
        variable.assign(tf.zeros_like(variable))
    named_weights.assign(case.model, arrays, "x")
    for name, variable in variables.items():
        np.testing.assert_array_equal(np.array(variable), before[name])


@pytest.mark.smoke
def test_loss_terms_are_finite_per_example_float32(case):
    terms = case.model.loss_terms(case.batch, training=True)
    assert "loss" in terms
    for name, values in terms.items():
        assert values.shape == (BATCH,), name
        assert values.dtype == tf.float32, name
        assert np.isfinite(values).all(), name


def test_all_variables_exist_once_built(case):
    before = {id(v) for v in case.model.variables}
    case.model.loss_terms(case.batch, training=True)
    case.model.imagine(case.model.observe(case.video[:, : case.context], seed=seeds_for(case.model, BATCH)), 2)
    assert {id(v) for v in case.model.variables} == before


def test_gradients_reach_every_variable(case):
    model = case.make()
    unreached = {id(v) for v in model.unreached_variables()}
    missed = [(i, v) for i, v in enumerate(model.trainable_variables) if id(v) not in unreached]
    for first_id in range(0, 50, 10):  # a unit may be off for all of four examples: then others get a try
        with tf.GradientTape() as tape:
            batch = {**case.batch, "id": case.batch["id"] + first_id}
            loss = tf.reduce_mean(model.loss_terms(batch, training=True)["loss"])
        gradients = tape.gradient(loss, model.trainable_variables)
        for i, variable in missed:
            assert gradients[i] is not None and np.isfinite(gradients[i]).all(), variable.name
        missed = [(i, v) for i, v in missed if not np.any(np.asarray(gradients[i]) != 0)]
        if not missed:
            break
    assert not missed, [v.name for _, v in missed]


def test_rollouts_have_the_asked_for_shape_and_are_finite(case):
    horizon = 10 * FUTURE + 1  # whole chunks and a chunk of one frame
    chunks = list(case.model.rollout(case.video[:, : case.context], horizon, chunk=FUTURE))
    video = np.concatenate(chunks, axis=2)
    assert video.shape == (BATCH, 1, horizon, *case.shape) and video.dtype == np.float32
    assert np.isfinite(video).all()


def test_imagination_continues_where_it_stopped(case):
    state = case.model.observe(case.video[:, : case.context], seed=seeds_for(case.model, BATCH))
    whole, after_whole = case.model.imagine(state, 7)
    first, middle = case.model.imagine(state, 3)
    second, after_parts = case.model.imagine(middle, 4)
    close(whole, tf.concat([first, second], axis=1), 2e-5)
    close(after_whole, after_parts, 2e-5)


@of_first_variants
def test_horizon_may_be_a_tensor(case):
    imagine = tf.function(case.model.imagine)
    state = case.model.observe(case.video[:, : case.context], seed=seeds_for(case.model, BATCH))
    close(imagine(state, tf.constant(5))[0], case.model.imagine(state, 5)[0], GRAPHS)


def test_observing_in_two_parts_equals_observing_at_once(case):
    multiple = case.model.context_multiple
    frames = case.model.fewest_context + 2 * multiple
    video = tf.concat([case.video] * -(-frames // case.video.shape[1]), axis=1)[:, :frames]
    seed = seeds_for(case.model, BATCH)
    whole = case.model.observe(video, seed=seed)
    for split in range(case.model.fewest_context, frames, multiple):
        parts = case.model.observe(video[:, split:], case.model.observe(video[:, :split], seed=seed))
        close(whole, parts, 2e-5)


def test_one_step_predictions_do_not_see_the_future(case):
    first, changed = case.model.fewest_context, case.context + 1
    other = tf.concat([case.video[:, :changed], 1.0 - case.video[:, changed:]], axis=1)
    before, after = case.model.next_frames(case.video), case.model.next_frames(other)
    # Prediction i is of frame first + i; it may depend on frames before that one only.
    close(before[:, : changed + 1 - first], after[:, : changed + 1 - first], 1e-6)
    if case.model.context_multiple == 1:
        assert np.abs(np.asarray(before - after)[:, changed + 1 - first :]).max() > 1e-6


def test_rollouts_ignore_everything_after_the_context(case):
    def predictions(video):
        batch = {"video": video, "id": case.batch["id"], "mask": tf.ones(video.shape[:2])}
        scores = scoring.score({"m": case.model}, [batch], BATCH, ["mse"], case.context, FUTURE).scores
        return scores["m"].examples

    context = case.video[:, : case.context]
    future = case.video[:, case.context : case.context + FUTURE]
    np.testing.assert_array_equal(
        predictions(tf.concat([context, future], 1)), predictions(tf.concat([context, 1 - future], 1))
    )
    ours, others = (np.concatenate(list(case.model.rollout(c, FUTURE)), axis=2) for c in (context, 1 - context))
    assert np.abs(ours - others).max() > 1e-6


def test_predictions_do_not_depend_on_the_rest_of_the_batch(case):
    context, ids = case.video[:, : case.context], case.batch["id"]
    together = np.concatenate(list(case.model.rollout(context, FUTURE, ids=ids)), axis=2)
    alone = np.concatenate(list(case.model.rollout(context[2:3], FUTURE, ids=ids[2:3])), axis=2)
    close(together[2:3], alone, 2e-5)


def test_streams_of_different_age_share_a_batch(case):
    model, seed = case.model, seeds_for(case.model, BATCH)
    seed = [None, None] if seed is None else [seed[:2], seed[2:]]
    young = model.observe(case.video[:2, : case.context], seed=seed[0])
    _, old = model.imagine(model.observe(case.video[2:, : case.context], seed=seed[1]), 3)
    joined = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), young, old)
    for _ in range(2):
        video, joined = model.imagine(joined, 4)
        apart = [model.imagine(state, 4) for state in (young, old)]
        # Frames of another age are off by .04 or more. What is fed back amplifies rounding: a context changed by 1e-7
        # moves the eleventh frame of iam4vp-uneven by 6e-4.
        close(video, tf.concat([part for part, _ in apart], axis=0), 1e-3)
        young, old = (state for _, state in apart)


def test_samples_differ_and_are_reproducible(case):
    if not case.model.stochastic:
        assert all(
            np.array_equal(*pair)
            for pair in zip(
                *(
                    list(case.model.rollout(case.video[:, : case.context], FUTURE, ids=i * tf.ones(BATCH, tf.int64)))
                    for i in (1, 2)
                )
            )
        )
        return

    def roll(**options):
        return np.concatenate(list(case.model.rollout(case.video[:, : case.context], FUTURE, **options)), axis=2)

    three = roll(samples=3)
    close(three, roll(samples=3))
    close(three[:, 1:], roll(samples=2, first_sample=1), 2e-5)
    assert np.abs(three[:, 0] - three[:, 1]).max() > 1e-5


@of_first_variants
def test_config_and_weights_round_trip(case, tmp_path):
    config = json.loads(json.dumps(case.model.get_config()))
    twin = case.cls.from_config(config)
    twin.build_on({k: tf.TensorSpec([2, *v.shape[1:]], v.dtype) for k, v in case.batch.items()}, trace=False)
    assert sorted(twin.term_names) == sorted(case.model.term_names)
    case.model.save_weights(str(tmp_path / "m.weights.h5"))
    twin.load_weights(str(tmp_path / "m.weights.h5"))
    for ours, theirs in zip(case.model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    context = case.video[:, : case.context]
    for ours, theirs in zip(case.model.rollout(context, FUTURE), twin.rollout(context, FUTURE)):
        close(ours, theirs)


def test_contexts_that_cannot_be_observed_are_refused(case):
    with pytest.raises(UserError, match="observed frames"):
        case.model.check_context(case.model.fewest_context - 1)
    if case.model.context_multiple > 1:
        with pytest.raises(UserError, match="use "):
            case.model.check_context(case.model.fewest_context + case.model.context_multiple - 1)
    case.model.check_context(case.context)


def test_image_sizes_that_do_not_divide_are_refused(case):
    multiple = case.model.size_multiple
    if multiple == 1:
        case.model.check_image_size()
        return
    with pytest.raises(UserError, match="data.image_size"):
        case.cls((2 * multiple + 1, 2 * multiple, case.shape[-1]), **case.options).check_image_size()


@of_first_variants
def test_bfloat16_trains_and_predicts_close_to_float32(case):
    expected = np.asarray(case.model.loss_terms(case.batch, training=False)["loss"])
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = case.make()
    for target, source in zip(model.variables, case.model.variables, strict=True):
        target.assign(source)
    with tf.GradientTape() as tape:
        loss = model.loss_terms(case.batch, training=False)["loss"]
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(np.asarray(loss), expected, rtol=0.05)
    assert all(v.dtype == "float32" or v.dtype == tf.float32 for v in model.trainable_variables)
    assert all(g is None or np.isfinite(g).all() for g in tape.gradient(loss, model.trainable_variables))
    video = np.concatenate(list(model.rollout(case.video[:, : case.context], 3)), axis=2)
    assert video.dtype == np.float32 and np.isfinite(video).all()
