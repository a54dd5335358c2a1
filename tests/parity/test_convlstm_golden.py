"""ConvLSTM layers and models against values computed with the references."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfvp.layers import patches
from tfvp.layers.convlstm import ConvLSTM, KerasConvLSTM
from tfvp.models.convlstm import ForecasterConvLSTM, KerasExampleConvLSTM, NotebookConvLSTM, OpenSTLConvLSTM


def to_tf(kernel):
    """PyTorch's (out, in, h, w) -> (h, w, in, out)."""
    return np.transpose(kernel, (2, 3, 1, 0))


def load_openstl_cell(layer, weights, prefix=""):
    layer.kernel.assign(to_tf(weights[f"{prefix}conv_x.0.weight"]))
    layer.recurrent_kernel.assign(to_tf(weights[f"{prefix}conv_h.0.weight"]))


def load_notebook_layer(layer, weights, prefix=""):
    """One pair of convolutions per gate; ours has the gates i, f, g, o on the output axis."""

    def gates(kind, side):
        parts = [weights[f"{prefix}conv_lstm_cell.conv_{side}{gate}.{kind}"] for gate in "ifgo"]
        return np.concatenate([to_tf(p) for p in parts], axis=-1) if kind == "weight" else np.concatenate(parts)

    layer.kernel.assign(gates("weight", "i"))
    layer.recurrent_kernel.assign(gates("weight", "h"))
    layer.input_bias.assign(gates("bias", "i"))
    layer.state_bias.assign(gates("bias", "h"))


def test_openstl_cell():
    case = golden.case("convlstm", "openstl_cell_3steps")
    x = tf.constant(case.inputs["x"])
    layer = ConvLSTM(case.hyper["hidden"], case.hyper["kernel"], bias="none")
    layer.build((None, *x.shape[2:]))
    load_openstl_cell(layer, case.parameters)
    state = {"h": tf.constant(case.inputs["h0"]), "c": tf.constant(case.inputs["c0"])}
    outputs, last = layer.sequence(x, state)
    for t in range(x.shape[1]):
        _, state = layer.step(x[:, t], state)
        case.check(f"h{t}", state["h"])
        case.check(f"c{t}", state["c"])
        case.check(f"h{t}", outputs[:, t])
    case.check(f"c{x.shape[1] - 1}", last["c"])


def openstl_model(case):
    hyper = case.hyper
    model = OpenSTLConvLSTM(
        case.inputs["video"].shape[2:],
        hidden=hyper["hidden"],
        kernel=hyper["kernel"],
        patch=hyper["patch"],
        context=hyper["context"],
    )
    for i, layer in enumerate(model.recurrent):
        load_openstl_cell(layer, case.parameters, f"cell_list.{i}.")
    model.output_conv.kernel.assign(to_tf(case.parameters["conv_last.weight"]))
    return model


@pytest.mark.parametrize("mask", ["m0", "m1", "mb"])
def test_openstl_model(mask):
    case = golden.case("convlstm", "openstl_model_2x16")
    model = openstl_model(case)
    context, patch = case.hyper["context"], case.hyper["patch"]
    video, drawn = tf.constant(case.inputs["video"]), case.inputs["mask_bernoulli"]
    masks = {"m0": np.zeros_like(drawn), "m1": np.ones_like(drawn), "mb": drawn}
    with tf.GradientTape() as tape:
        predicted = model.predict_sampled(video, tf.constant(masks[mask]))
        loss = tf.reduce_mean(tf.square(predicted - patches.to_patches(video[:, 1:], patch)))
    case.check("patches", patches.to_patches(video, patch))
    case.check(f"{mask}/prediction_patches", predicted)
    forecast = patches.from_patches(predicted[:, context - 1 :], patch)
    case.check(f"{mask}/forecast_last{case.hyper['horizon']}_frames", forecast)
    case.check_scalar(f"{mask}/loss_all{case.hyper['steps']}", loss)
    error = forecast - video[:, context:]
    case.check_scalar(f"{mask}/forecast_mse_sum", tf.reduce_mean(tf.reduce_sum(error**2, [2, 3, 4])))
    case.check_scalar(f"{mask}/forecast_mae_sum", tf.reduce_mean(tf.reduce_sum(abs(error), [2, 3, 4])))
    named = {}
    for i, layer in enumerate(model.recurrent):
        named[f"cell_list.{i}.conv_x.0.weight"] = layer.kernel
        named[f"cell_list.{i}.conv_h.0.weight"] = layer.recurrent_kernel
    named["conv_last.weight"] = model.output_conv.kernel
    gradients = dict(zip(named, tape.gradient(loss, list(named.values()))))
    case.check(
        f"{mask}/grad_norm_per_parameter",
        np.array([np.linalg.norm(gradients[n]) if n in gradients else 0.0 for n in case.parameters]),
    )


def test_openstl_rollout_is_the_forecast_without_truth():
    case = golden.case("convlstm", "openstl_model_2x16")
    context, horizon = case.hyper["context"], case.hyper["horizon"]
    chunks = openstl_model(case).rollout(tf.constant(case.inputs["video"][:, :context]), horizon, chunk=3)
    case.check(f"m0/forecast_last{horizon}_frames", np.concatenate(list(chunks), axis=2)[:, 0])


def test_notebook_layer():
    case = golden.case("convlstm", "notebook_layer_3steps")
    x = case.inputs["x"]
    layer = ConvLSTM(case.hyper["hidden"], case.hyper["kernel"], activation="relu", bias="double")
    layer.build((None, *x.shape[2:]))
    load_notebook_layer(layer, case.parameters)
    outputs, last = layer.sequence(tf.constant(x), layer.zero_state(*x.shape[:1], *x.shape[2:4]))
    for t in range(x.shape[1]):
        case.check(f"h{t}", outputs[:, t])
    case.check(f"c{x.shape[1] - 1}", last["c"])


def test_notebook_model():
    case = golden.case("convlstm", "notebook_model_eval")
    x = tf.constant(case.inputs["x"])
    model = NotebookConvLSTM(x.shape[2:], hidden=case.hyper["hidden"][:-1], kernels=case.hyper["kernels"])
    for i, layer in enumerate(model.recurrent):
        load_notebook_layer(layer, case.parameters, f"convlstm{i}.0." if i < len(model.norms) else "final.")
    for i, norm in enumerate(model.norms):
        norm.gamma.assign(case.parameters[f"convlstm{i}.1.weight"])
        norm.beta.assign(case.parameters[f"convlstm{i}.1.bias"])
        norm.moving_mean.assign(case.inputs[f"buffer:convlstm{i}.1.running_mean"])
        norm.moving_variance.assign(case.inputs[f"buffer:convlstm{i}.1.running_var"])
    outputs, _ = model.read(x, model.zero_state(x.shape[0]))
    case.check("final", outputs)


@pytest.mark.parametrize("gates", ["sigmoid", "hard_sigmoid"])
def test_keras_layer(gates):
    case = golden.case("convlstm", f"keras_layer_{gates}")
    x = tf.constant(case.inputs["x"])
    batch, steps, height, width, _ = x.shape
    layer = KerasConvLSTM(case.hyper["filters"], case.hyper["kernel"], recurrent_activation=gates)
    layer.build((None, *x.shape[2:]))
    cell = layer.recurrent.cell
    cell.kernel.assign(case.parameters["kernel"])
    cell.recurrent_kernel.assign(case.parameters["recurrent_kernel"])
    cell.bias.assign(case.parameters["bias"])
    outputs, last = layer.sequence(x, layer.zero_state(batch, height, width))
    state = layer.zero_state(batch, height, width)
    for t in range(steps):
        h, state = layer.step(x[:, t], state)
        case.check(f"h{t}", h)
        case.check(f"h{t}", outputs[:, t])
    case.check(f"c{steps - 1}", state["c"])
    case.check(f"c{steps - 1}", last["c"])


def test_scheduled_sampling_probability():
    case = golden.case("convlstm", "schedules")
    model = OpenSTLConvLSTM((8, 8, 1), hidden=[1], sampling_rate=case.hyper["eta_rate"])
    for count, eta in zip(case.scalars["iterations_completed"], case.scalars["eta_after"]):
        # The value in use after n iterations is the one that iteration n - 1 has set.
        assert float(model.sampling_probability(tf.constant(int(count) - 1))) == pytest.approx(max(0.0, eta), abs=2e-7)


def sizes(model):
    """(all weights, trainable ones)."""
    return sum(int(np.prod(v.shape)) for v in model.weights), sum(
        int(np.prod(v.shape)) for v in model.trainable_weights
    )


def test_parameter_counts():
    shape = (64, 64, 1)
    assert sizes(NotebookConvLSTM(shape))[1] == 745_868
    assert sizes(KerasExampleConvLSTM(shape))[0] == 746_689
    assert sizes(ForecasterConvLSTM(shape))[0] == 7_585_296
    assert sizes(ForecasterConvLSTM(shape, hidden=[128, 128]))[0] == 10_042_896
    assert sizes(ForecasterConvLSTM(shape, hidden=[256]))[0] == 13_524_496
    assert sizes(OpenSTLConvLSTM(shape))[0] == 11_675_648
    assert sizes(OpenSTLConvLSTM(shape, legacy_dead=True))[0] == 15_083_520
    assert sizes(OpenSTLConvLSTM(shape, hidden=[192] * 4))[0] == 26_115_072
    assert sizes(OpenSTLConvLSTM(shape, hidden=[192] * 4, legacy_dead=True))[0] == 33_782_784


def test_multiply_accumulates_of_the_benchmark():
    """56.79 GMAC for the 19 steps of OpenSTL's ConvLSTM-S at 64x64: its weights, once per grid cell and step."""
    model = OpenSTLConvLSTM((64, 64, 1))
    kernels = [layer.kernel for layer in model.recurrent] + [layer.recurrent_kernel for layer in model.recurrent]
    per_cell = sum(int(np.prod(k.shape)) for k in [*kernels, model.output_conv.kernel])
    assert per_cell * 16 * 16 * 19 / 1e9 == pytest.approx(56.79, abs=0.01)


def test_cells_agree_with_a_loop_in_numpy():
    """Peepholes, one bias, tanh: what no golden value covers."""
    rng = np.random.default_rng(0)
    layer = ConvLSTM(2, 3, peephole=True)
    layer.build((None, 4, 4, 1))
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.5)
    x = rng.normal(size=(1, 3, 4, 4, 1)).astype(np.float32)
    outputs, state = layer.sequence(tf.constant(x), layer.zero_state(1, 4, 4))

    def convolve(image, kernel):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        return np.array(
            [[np.einsum("abc,abcd->d", padded[r : r + 3, c : c + 3], kernel) for c in range(4)] for r in range(4)]
        )

    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    weights = [np.asarray(v) for v in (layer.kernel, layer.recurrent_kernel, layer.input_bias, layer.peephole_weights)]
    h = c = np.zeros((4, 4, 2))
    for t in range(3):
        i, f, g, o = np.split(convolve(x[0, t], weights[0]) + convolve(h, weights[1]) + weights[2], 4, axis=-1)
        c_before = c
        c = sigmoid(f + weights[3][1] * c_before) * c_before + sigmoid(i + weights[3][0] * c_before) * np.tanh(g)
        h = sigmoid(o + weights[3][2] * c) * np.tanh(c)
        np.testing.assert_allclose(outputs[0, t], h, atol=1e-5)
    np.testing.assert_allclose(state["c"][0], c, atol=1e-5)


def test_the_example_s_head_leaks_the_next_frame():
    """The reference's Conv3D head reads its own target; ours must not, its `legacy_conv3d` must."""
    video = np.random.default_rng(0).uniform(size=(1, 6, 8, 8, 1)).astype(np.float32)
    changed = video.copy()
    changed[:, 4] = 1 - changed[:, 4]
    for legacy in (False, True):
        model = KerasExampleConvLSTM((8, 8, 1), hidden=[4], kernels=[3], legacy_conv3d=legacy)
        difference = np.abs(np.asarray(model.next_frames(video) - model.next_frames(changed))).max(axis=(0, 2, 3, 4))
        # Output t predicts frame t + 1 from frames 0 ... t; the leak makes output 3 depend on frame 4.
        assert (difference[3] > 1e-6) == legacy and difference[4] > 1e-6 and difference[:3].max() < 1e-7


def test_patches_round_trip_in_the_benchmark_s_order():
    video = tf.reshape(tf.range(2 * 3 * 8 * 8 * 2, dtype=tf.float32), [2, 3, 8, 8, 2])
    cut = patches.to_patches(video, 4)
    assert cut.shape == (2, 3, 2, 2, 32)
    py, px, channel = 2, 3, 1
    assert float(cut[1, 2, 1, 0, (py * 4 + px) * 2 + channel]) == float(video[1, 2, 4 + py, px, channel])
    np.testing.assert_array_equal(patches.from_patches(cut, 4), video)
