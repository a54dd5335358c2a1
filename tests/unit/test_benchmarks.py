"""The arithmetic that benchmarks report, on operations whose cost is known."""

import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import choice, convolutions, exports, floor, kernels, models
from tfvp import cli
from tfvp.errors import UserError
from tfvp.layers import winograd
from tfvp.training import arithmetic


def counted(call):
    with arithmetic.recorded() as operations:
        call()
    return operations.macs


def test_convolutions_are_counted_forward_and_backward():
    image, kernel = tf.random.normal([2, 8, 6, 3]), tf.Variable(tf.random.normal([5, 3, 3, 4]))
    forward = 2 * 8 * 6 * 4 * 5 * 3 * 3

    def both():
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_sum(tf.nn.conv2d(image, kernel, 1, "SAME"))
        tape.gradient(loss, [image, kernel])

    assert counted(lambda: tf.nn.conv2d(image, kernel, 1, "SAME")) == forward
    assert counted(both) == 3 * forward


@pytest.mark.parametrize("turned", [False, True])
def test_matrix_products_are_counted(turned):
    a, b = tf.zeros([7, 5]), tf.zeros([5, 11])
    assert counted(lambda: tf.matmul(tf.transpose(a) if turned else a, b, transpose_a=turned)) == 7 * 5 * 11
    assert counted(lambda: tf.matmul(tf.zeros([3, 7, 5]), tf.zeros([3, 5, 2]))) == 3 * 7 * 5 * 2


def test_transposed_and_depthwise_convolutions_are_counted():
    image = tf.zeros([2, 4, 4, 6])
    assert (
        counted(lambda: tf.nn.conv2d_transpose(image, tf.zeros([3, 3, 5, 6]), [2, 8, 8, 5], 2))
        == image.shape[0] * 16 * 6 * 9 * 5
    )
    assert (
        counted(lambda: tf.nn.depthwise_conv2d(image, tf.zeros([3, 3, 6, 1]), [1, 1, 1, 1], "SAME"))
        == int(np.prod(image.shape)) * 9
    )


def test_the_floor_of_a_step_is_that_of_its_slowest_resource():
    def sizes(clips):
        image, kernel = tf.random.normal([clips, 8, 8, 4]), tf.random.normal([3, 3, 4, 16])
        with arithmetic.recorded() as operations:
            tf.matmul(tf.reshape(tf.nn.conv2d(image, kernel, 1, "SAME"), [clips, 1024]), tf.zeros([1024, 10]))
            tf.nn.depthwise_conv2d(image, tf.zeros([3, 3, 4, 1]), [1, 1, 1, 1], "SAME")
        return np.array([("Depthwise" in kind, macs, n) for kind, macs, n in operations.sizes], float)

    np.testing.assert_array_equal(floor.scaled(sizes(1), sizes(2), 7), sizes(7))
    with pytest.raises(ValueError, match="other operations"):
        floor.scaled(sizes(1), sizes(2)[:2], 7)
    step = floor.Step(sizes(7), updated=100, kernels=3)
    assert step.macs == 7 * (64 * 16 * 36 + 1024 * 10 + 256 * 9)
    numbers = 7 * (256 + 1024) + 576 + 7 * (1024 + 10) + 10240 + 7 * 2 * 256 + 36
    assert step.bytes_moved(2) == 2 * numbers + 400
    slow_memory = floor.Rate(tensor=1e30, vector=1e30, bandwidth=10.0, width=2)
    assert step.floor(slow_memory) == pytest.approx(step.bytes_moved(2) / 10)
    slow_vectors = floor.Rate(tensor=1e30, vector=1.0, bandwidth=1e30, width=2)
    assert step.floor(slow_vectors) == pytest.approx(7 * 256 * 9)


def test_only_leaves_what_has_a_part_of_its_name():
    cases = [("svg/tiny", 1), ("demo", 2)]
    assert choice.chosen(cases, [], lambda case: case[0]) == cases
    assert choice.chosen(cases, ["svg", "none"], lambda case: case[0]) == cases[:1]
    with pytest.raises(UserError, match="no name has such a part; there are svg/tiny, demo"):
        choice.chosen(cases, ["cwvae"], lambda case: case[0])


def test_the_rates_of_the_machine_are_rates():
    assert all(rate > 0 for rate in models.limits().values())


def test_operations_are_timed_again_by_themselves():
    image, kernel = tf.random.normal([4, 32, 32, 16]), tf.random.normal([3, 3, 16, 32])

    def call(times):
        with arithmetic.recorded() as operations:
            for _ in range(times):
                with tf.GradientTape() as tape:
                    tape.watch([image, kernel])
                    loss = tf.reduce_sum(tf.nn.conv2d(image, kernel, 2, "SAME"))
                tape.gradient(loss, [image, kernel])
        return operations

    once, often = call(1), call(50)
    assert len(once.calls) == len(often.calls) == 3 and set(often.calls.values()) == {50}
    assert 0 < once.seconds_alone() < often.seconds_alone()


def test_kernels_are_counted_as_they_run():
    @tf.function
    def call(x):
        for _ in tf.range(5):
            x = tf.tanh(tf.matmul(x, x))
        return x

    x = tf.random.normal([8, 8])
    call(x)
    kinds = kernels.count(lambda: call(x).numpy())
    assert kinds["Tanh"] == 5 and sum(times for kind, times in kinds.items() if kind.endswith("MatMul")) == 5


def test_draws_are_recorded_and_made_again():
    from tfvp.layers import noise

    def draw():
        seeds = noise.example_seeds(tf.range(3))
        return noise.normal_at(seeds, tf.range(4), (5,)), noise.uniform(seeds, (2,))

    with kernels.recorded_noise() as draws:
        first = draw()
    assert len(draws) == 2
    again = kernels.repeated(draws)()
    assert [tuple(part.shape) for part in (again[0][0], again[1])] == [tuple(part.shape) for part in first]
    assert kernels.repeated([]) is None


def test_files_are_measured_against_the_saved_model(tmp_path, monkeypatch):
    """TFLite takes half the time and a tenth of the memory here; ONNX does not convert one batch size."""

    def child(limit, action, *arguments):
        kind, batch, _ = arguments[-3:]
        if kind == "onnx" and batch == 8:
            return {"error": "no such operator"}
        if action == "write":
            return {"operators": kind.upper(), "bytes": 2_500_000}
        scale, memory = {"saved_model": (1.0, 800.0), "tflite": (0.5, 80.0), "onnx": (2.0, 160.0)}[kind]
        return {"p50": 0.01 * batch * scale, "p99": 0.02 * batch * scale, "peak MB": memory, "difference": 1e-7 * batch}

    monkeypatch.setattr(exports, "_child", child)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in exports._rows("demo", tmp_path / "d", 1)]
    assert [len(row) for row in rows] == [11] * 3 == [len(exports._heading()[0].strip("|").split("|"))] * 3
    absolute = ["10.0 ms", "20.0 ms", "800 MB", "80.0 ms", "160.0 ms", "800 MB"]
    assert rows[0] == ["demo", "saved_model", "SAVED_MODEL", "8.0e-07", "2.50", *absolute]
    assert rows[1][4:] == ["2.50", "0.50", "0.50", "0.10", "0.50", "0.50", "0.10"]
    assert rows[2][2:] == ["no such operator", "1.0e-07", "2.50", "2.00", "2.00", "0.20", "", "", ""]


def test_winograds_algorithm_is_timed_beside_the_direct_one(monkeypatch, capsys):
    monkeypatch.setattr(convolutions, "CASES", [("small", (2, 8, 8, 32), 48, 5), ("left out", (1, 4, 4, 1), 1, 3)])
    convolutions.run(types.SimpleNamespace(only=["small"], rounds=2))
    *_, line = capsys.readouterr().out.splitlines()
    name, *numbers = line.split()
    direct, ours, ratio = map(float, numbers[:3])
    assert name == "small" and ratio > 0 and len(numbers) == 8
    assert max(map(float, numbers[6:])) < 1e-4


def test_a_steps_arithmetic_is_that_of_ordinary_convolutions():
    class Model:
        own_train_function = True

        def make_train_function(self, force):
            def function(data):
                images, _ = next(data)
                kernel = tf.Variable(tf.zeros([3, 3, 64, 128]))
                if winograd.gains(images.shape[1:3], kernel.shape, tf.float32):
                    return winograd.conv2d(images, winograd.transformed(kernel))
                return tf.nn.conv2d(images, kernel, 1, "SAME")

            return function

    images = tf.zeros([1, 8, 8, 64])
    assert arithmetic.of_a_step(Model(), (images, images)).macs == 8 * 8 * 9 * 64 * 128


@pytest.mark.parametrize("arguments", [["against", ".", "--reference", "svg"], ["backups"], ["convolutions"]], ids=str)
def test_no_rounds_are_no_measurement(arguments):
    with pytest.raises(UserError, match="^--rounds=0 must be at least 1"):
        cli.execute(["benchmark", *arguments, "--rounds", "0"])
