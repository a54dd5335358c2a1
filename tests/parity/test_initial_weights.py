"""What a run starts from: initial weights against those that the references' constructors draw.

`tests/initial_values` has the mean, deviation and range of every parameter of a reference,
built once at its published size with seed 0. Both sides are random, so that they agree within
what so many draws leave open; a wrong rule is off by much more.
"""

import gc
import json

import numpy as np
import pytest
from tensorflow import keras

from tests import golden
from tests.parity.layouts import simvp_variables
from tfvp.importers import iam4vp, svg
from tfvp.models.convlstm import KerasExampleConvLSTM, NotebookConvLSTM, OpenSTLConvLSTM
from tfvp.models.iam4vp import IAM4VP
from tfvp.models.simvp import SimVP
from tfvp.models.svg import SVG

SHAPE = (64, 64, 1)
FEW = 16  # draws that say too little about where they come from


def of_iam4vp():
    model = IAM4VP(SHAPE, legacy_dead_block=True)
    return {name: variables for name, (variables, _) in iam4vp.variables(model).items()}


def of_simvp():
    return {name: [variable] for name, variable in simvp_variables(SimVP(SHAPE)).items()}


def of_convlstm_openstl():
    model = OpenSTLConvLSTM(SHAPE, legacy_dead=True)
    named = {"conv_last.weight": [model.output_conv.kernel]}
    for i, layer in enumerate(model.recurrent):
        named[f"cell_list.{i}.conv_x.0.weight"] = [layer.kernel]
        named[f"cell_list.{i}.conv_h.0.weight"] = [layer.recurrent_kernel]
        named[f"cell_list.{i}.conv_o.0.weight"] = [model.dead[2 * i]]
        named[f"cell_list.{i}.conv_last.weight"] = [model.dead[2 * i + 1]]
    return named


def of_convlstm_notebook():
    model, named = NotebookConvLSTM(SHAPE), {}
    for i, layer in enumerate(model.recurrent):
        cell = "final.conv_lstm_cell" if i == 3 else f"convlstm{i}.0.conv_lstm_cell"
        for side, kernel, bias in (
            ("i", layer.kernel, layer.input_bias),
            ("h", layer.recurrent_kernel, layer.state_bias),
        ):
            for gate, weight, offset in zip("ifgo", np.split(kernel, 4, axis=-1), np.split(bias, 4)):
                named[f"{cell}.conv_{side}{gate}.weight"] = [weight]
                named[f"{cell}.conv_{side}{gate}.bias"] = [offset]
    for i, norm in enumerate(model.norms):
        named[f"convlstm{i}.1.weight"], named[f"convlstm{i}.1.bias"] = [norm.gamma], [norm.beta]
    return named


def of_svg():
    model = SVG(SHAPE)
    named = {}
    names = iter(reference("svg"))
    for theirs, ours in (
        ("frame_predictor", "predictor"),
        ("posterior", "posterior"),
        ("prior", "prior"),
        ("encoder", "encoder"),
        ("decoder", "decoder"),
    ):
        for suffix, variable, _ in svg.variables(getattr(model, ours)):
            if not suffix.startswith("running"):
                name = next(names)
                assert name.startswith(theirs) and name.endswith(suffix)
                named[name] = [variable]
    return named


def reference(name):
    """{parameter: {"shape", "mean", "std", "min", "max"}} of a reference."""
    path = golden.ROOT / "tests" / "initial_values" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["variables"]


def mismatches(theirs, values, bound):
    """What is wrong with drawn `values`, as a list of words.

    Args:
        theirs: a reference's record.
        values: ours, flat.
        bound: for a handful of values, the largest by PyTorch's default.
    """
    size, deviation = values.size, theirs["std"]
    if size != int(np.prod(theirs["shape"])):
        return [f"{size} values, not {theirs['shape']}"]
    if deviation == 0 and (size > 1 or theirs["mean"] == 0):
        return [] if np.all(np.abs(values - theirs["mean"]) <= 1e-6 * abs(theirs["mean"])) else ["not constant"]
    if size < FEW:
        return [] if np.abs(values).max() <= bound and np.any(values) else [f"{values} beyond {bound}"]
    # Five deviations of a difference of two means, or of two deviations, of `size` draws each.
    wrong = []
    if abs(values.mean() - theirs["mean"]) > 5 * deviation * (2 / size) ** 0.5:
        wrong.append(f"mean {values.mean():.3g}, not {theirs['mean']:.3g}")
    if abs(values.std() - deviation) > 5 * deviation * size**-0.5:
        wrong.append(f"deviation {values.std():.3g}, not {deviation:.3g}")
    # The largest of many normal draws varies by half a deviation, the largest of many uniform ones hardly.
    uniform = max(-theirs["min"], theirs["max"]) < 2 * deviation
    for side in ("min", "max"):
        ours = getattr(values, side)()
        if abs(ours - theirs[side]) > (0.5 if uniform else 2.0) * deviation:
            wrong.append(f"{side} {ours:.3g}, not {theirs[side]:.3g}")
    return wrong


@pytest.mark.parametrize("of", [of_iam4vp, of_simvp, of_convlstm_openstl, of_convlstm_notebook, of_svg])
def test_weights_start_as_the_reference_draws_them(of):
    theirs, ours = reference(of.__name__.removeprefix("of_")), of()
    assert set(ours) == set(theirs)
    wrong = {}
    for name, record in theirs.items():
        values = np.concatenate([np.asarray(v).ravel() for v in ours[name]])
        weight = theirs[name.removesuffix("bias") + "weight"] if name.endswith("bias") else record
        words = mismatches(record, values, bound=np.prod(weight["shape"][1:]) ** -0.5)
        if words:
            wrong[name] = words
    del ours
    gc.collect()
    assert not wrong


def test_no_two_variables_start_from_the_same_draws():
    """Two variables of one shape that share an initializer would."""
    model = IAM4VP((16, 16, 1), **IAM4VP.small_variants[""])
    drawn = [np.asarray(v).tobytes() for v in model.trainable_variables if np.ptp(v) > 0]
    assert len(set(drawn)) == len(drawn)


def test_the_keras_example_starts_as_its_layers_do():
    model = KerasExampleConvLSTM(SHAPE)
    layer = keras.layers.ConvLSTM2D(64, 5, padding="same", activation="relu", return_sequences=True)
    layer.build((None, None, *SHAPE))
    for theirs, ours in zip(layer.weights, model.recurrent[0].recurrent.weights, strict=True):
        theirs, ours = np.asarray(theirs), np.asarray(ours)
        record = {"shape": theirs.shape, **{k: getattr(theirs, k)() for k in ("mean", "std", "min", "max")}}
        assert not mismatches(record, ours.ravel(), 1.0)
