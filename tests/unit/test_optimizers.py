"""Schedules as PyTorch defines them, momentum cycling, optimizers by name, weight averages."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests import golden
from tfvp import compat
from tfvp.errors import UserError
from tfvp.models import updates
from tfvp.training import optimizers, strategies


def settings(**changes):
    values = {
        "optimizer": "adam",
        "optimizer_options": {},
        "adam_rule": "keras",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "final_learning_rate": 0.0,
        "cycle_warmup": 0.3,
        "cycle_initial_div": 25.0,
        "cycle_final_div": 1e4,
        "cycle_momentum": [0.85, 0.95],
    }
    return types.SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize(("prefix", "peak", "warmup"), [("onecycle", 5e-4, 0.3), ("pct0_onecycle", 1e-3, 0.0)])
def test_one_cycle_is_pytorch_s(prefix, peak, warmup):
    case = golden.case("convlstm", "schedules")
    iterations = case.scalars["onecycle_iterations"]
    rate = optimizers.OneCycle(peak, 1000, warmup, peak / 25, peak / 25 / 1e4)
    momentum = optimizers.OneCycle(0.85, 1000, warmup, 0.95, 0.95)
    for i, lr, beta in zip(iterations, case.scalars[f"{prefix}_lr"], case.scalars[f"{prefix}_beta1"]):
        assert float(rate(i)) == pytest.approx(lr, rel=1e-5)
        assert float(momentum(i)) == pytest.approx(beta, rel=1e-6)


def test_schedules_advance_once_per_batch():
    every_update = optimizers.Cosine(1.0, 10)
    every_third = optimizers.Cosine(1.0, 10, updates_per_batch=3)
    assert [float(every_third(i)) for i in (0, 2, 3, 29)] == [float(every_update(i)) for i in (0, 0, 1, 9)]


def test_cosine_warms_up_and_ends_where_it_should():
    rate = optimizers.Cosine(1.0, 100, warmup=10, end=0.1)
    assert float(rate(0)) == pytest.approx(0.1) and float(rate(10)) == pytest.approx(1.0)
    assert float(rate(55)) == pytest.approx(0.55) and float(rate(100)) == pytest.approx(0.1)


def test_cycled_momentum_is_what_adam_uses():
    """One step of Adam from zero moments, with beta_1 read from the schedule at each update."""
    made = optimizers.build_optimizer(settings(schedule="one_cycle"), batches=10, batches_per_epoch=10)
    variable = tf.Variable([1.0])
    compat.build_optimizer(made, [variable])
    cycle = optimizers.OneCycle(0.85, 10, 0.3, 0.95, 0.95)
    rate = optimizers.OneCycle(1e-3, 10, 0.3, 1e-3 / 25, 1e-3 / 25 / 1e4)
    m = v = 0.0
    expected = 1.0
    for i, gradient in enumerate([0.5, -0.2, 0.9, 0.1]):
        b1, b2 = float(cycle(i)), 0.999
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        expected -= float(rate(i)) * (m / (1 - b1 ** (i + 1))) / (np.sqrt(v / (1 - b2 ** (i + 1))) + 1e-7)
        compat.apply_reduced_gradients(made, [tf.constant([gradient])], [variable])
    assert float(variable[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options"), [("adam", {}), ("adam", {"amsgrad": True}), ("adamw", {"weight_decay": 0.1, "beta_1": 0.5})]
)
def test_adam_in_one_kernel_is_keras_s(name, options):
    kinds = [optimizers.build_optimizer(settings(optimizer=name, optimizer_options=options), 10, 10)]
    kinds.append(compat.optimizer_class(name)(1e-3, **options))
    random, results = np.random.default_rng(0), []
    start, gradients = (
        random.normal(size=(5, 7)),
        random.normal(size=(4, 5, 7)) * [[[1e-3]], [[1.0]], [[0.0]], [[30.0]]],
    )
    for made in kinds:
        variable = tf.Variable(start, dtype=tf.float32)
        compat.build_optimizer(made, [variable])
        update = tf.function(lambda g, made=made, v=variable: compat.apply_reduced_gradients(made, [g], [v]))
        for gradient in gradients.astype(np.float32):
            update(tf.constant(gradient))
        results.append([variable, *(np.array(v) for v in compat.optimizer_variables(made))])
    assert type(kinds[0]) is not type(kinds[1]) and len(results[0]) == len(results[1])
    for found, expected in zip(*results):
        # The kernel takes 1 - beta_2 in float32, where .999 is .99900001: 1.3e-5 of the second moment.
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("rule", ["keras", "pytorch"])
def test_rates_and_momenta_are_computed_once_for_all_variables(rule):
    optimizer = optimizers.build_optimizer(settings(schedule="one_cycle", adam_rule=rule), 100, 10)
    variables = [tf.Variable([1.0, 2.0]) for _ in range(5)]
    compat.build_optimizer(optimizer, variables)

    @tf.function(autograph=False)
    def update():
        with optimizer.masked_by(tf.constant(True), variables):
            compat.apply_reduced_gradients(optimizer, [tf.ones_like(v) for v in variables], variables)

    kinds = [operation.type for operation in update.get_concrete_function().graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 5
    assert 0 < kinds.count("Cos") <= 4  # each of both cycles has two phases
    assert kinds.count("Pow") == 2
    update()
    assert all(np.all(variable.numpy() < [1.0, 2.0]) for variable in variables)


@pytest.mark.parametrize(("devices", "masked"), [(1, False), (1, True), (2, False), (2, True)])
def test_pytorch_s_adam_counts_updates_for_each_variable(devices, masked):
    """Epsilon stands beside the corrected root, and a variable without gradient does not count the update."""
    epsilon, rate = 0.1, 0.01  # large, so that its place shows
    strategy = strategies.make_strategy(devices) if devices > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        options = {"epsilon": epsilon}
        optimizer = optimizers.build_optimizer(
            settings(adam_rule="pytorch", optimizer_options=options, learning_rate=rate), 10, 10
        )
        layers = [keras.layers.Dense(1, use_bias=False, kernel_initializer=start) for start in ("ones", "zeros")]
        for layer in layers:
            layer.build((None, 1))
        variables = [layer.kernel for layer in layers]
        compat.build_optimizer(optimizer, variables)

    @tf.function(autograph=False)
    def update(gradients, which, finite=True):
        def step():
            pairs = [gradients[i] for i in which], [variables[i] for i in which]
            if masked:
                updates.apply_if_finite(tf.constant(finite), pairs[0], optimizer, pairs[1], None)
            else:
                compat.apply_reduced_gradients(optimizer, *pairs)

        strategy.run(step)

    expected, moments, counts = [1.0, 0.0], [[0.0, 0.0], [0.0, 0.0]], [0, 0]
    for first, second in ((0.5, None), (-0.2, 0.3), (0.9, -0.7)):
        gradients = [first, second]
        which = [i for i, g in enumerate(gradients) if g is not None]
        update([tf.constant([[g or 0.0]]) for g in gradients], tuple(which))
        if masked:
            update([tf.zeros([1, 1])] * 2, (0, 1), finite=False)
        for i in which:
            counts[i] += 1
            m, v = moments[i]
            m, v = moments[i] = 0.9 * m + 0.1 * gradients[i], 0.999 * v + 0.001 * gradients[i] ** 2
            m, v = m / (1 - 0.9 ** counts[i]), v / (1 - 0.999 ** counts[i])
            expected[i] -= rate * m / (np.sqrt(v) + epsilon)
    np.testing.assert_allclose([np.array(v).item() for v in variables], expected, rtol=1e-5)
    state = [np.array(v).tolist() for v in compat.optimizer_variables(optimizer)]
    assert [3, 2] in state  # which backups save


@pytest.mark.parametrize("name", ["adam", "Adam", "rmsprop", "sgd", "adamw", "lamb"])
def test_optimizers_by_name_take_a_step(name):
    made = optimizers.build_optimizer(settings(optimizer=name), 10, 10)
    variable = tf.Variable([1.0, -2.0])
    compat.build_optimizer(made, [variable])
    before = len(compat.optimizer_variables(made))
    compat.apply_reduced_gradients(made, [tf.constant([1.0, 1.0])], [variable])
    assert (variable.numpy() < [1.0, -2.0]).all()
    assert len(compat.optimizer_variables(made)) == before and int(made.iterations) == 1


def test_the_rate_that_is_logged_is_the_next_update_s():
    rate = optimizers.Linear(1.0, 10, start=0.0)
    optimizer = types.SimpleNamespace(learning_rate=rate, iterations=tf.constant(4))  # as in tensorflow-addons
    assert compat.learning_rate(optimizer) == pytest.approx(0.6)
    made = optimizers.build_optimizer(settings(schedule="linear", linear_start=0.0, learning_rate=1.0), 10, 10)
    made.iterations.assign(4)
    assert compat.learning_rate(made) == pytest.approx(0.6)


def test_wrong_optimizers_get_a_sentence():
    with pytest.raises(UserError, match="did you mean 'Ada"):
        optimizers.build_optimizer(settings(optimizer="Adma"), 10, 10)
    with pytest.raises(UserError, match="adam takes .*beta_1"):
        optimizers.build_optimizer(settings(optimizer_options={"beta1": 0.5}), 10, 10)
    with pytest.raises(UserError, match="about adam and adamw, not sgd"):
        optimizers.build_optimizer(settings(optimizer="sgd", adam_rule="pytorch"), 10, 10)
    for name in ("adagrad", "sgd", "rmsprop"):
        with pytest.raises(UserError, match="no momentum"):
            optimizers.build_optimizer(settings(optimizer=name, schedule="one_cycle"), 10, 10)
    clipped = settings(optimizer_options={"global_clipnorm": 1.0})
    assert optimizers.build_optimizer(clipped, 10, 10).global_clipnorm == 1.0
    with strategies.make_strategy(2).scope(), pytest.raises(UserError, match="set train.clip_norm"):
        optimizers.build_optimizer(clipped, 10, 10)


class Two(keras.Model):
    """Two weights, and updates that follow `updates_per_batch`."""

    updates_per_batch = 2

    def __init__(self):
        super().__init__()
        self.w = self.add_weight(name="w", shape=(2,), initializer="zeros")


@pytest.mark.parametrize("devices", [1, 2])
def test_average_follows_its_schedule(devices):
    strategy = strategies.make_strategy(devices) if devices > 1 else tf.distribute.get_strategy()
    with strategy.scope():
        model = Two()
        average = optimizers.WeightAverage(model, decay=0.5, every=2, start=2)
    seen = []
    for iteration in range(1, 13):
        model.w.assign([float(iteration), 0.0])
        average.update(strategy, tf.constant(iteration, tf.int64))
        seen.append(float(average.variables[0][0]))
    # Batches 0, 2 and 4 are due, which end with updates 2, 6 and 10; the first is a copy.
    assert seen == [0, 2, 2, 2, 2, 4, 4, 4, 4, 7, 7, 7]
    with average.in_place():
        assert float(model.w[0]) == 7.0
    assert float(model.w[0]) == 12.0


def test_linear_schedule_falls_after_its_start():
    rates = [float(optimizers.Linear(2.0, 10, start=0.6)(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [2.0] * 7 + [1.5, 1.0, 0.5, 0.0], rtol=1e-6)


def test_schedules_take_a_count_of_batches():
    """One update in each of the first four batches, then two per batch."""
    schedule = optimizers.Linear(
        8.0, 8, start=0.0, updates_per_batch=lambda updates: tf.minimum(updates, 4) + tf.maximum(updates - 4, 0) // 2
    )
    np.testing.assert_allclose([float(schedule(u)) for u in (0, 4, 5, 6, 12)], [8, 4, 4, 3, 0])
