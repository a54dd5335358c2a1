"""Checkpoints of SVG's structure, imported into a run that predicts the same."""

import collections
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import tfvp
from tests.unit.test_torch_file import Stored, write_archive, write_stream
from tfvp import cli, config
from tfvp.errors import UserError
from tfvp.importers import svg as importer
from tfvp.importers import torch_file, write_run

pytestmark = pytest.mark.usefixtures("plain_graphs")

TINY = """
# Tests only.
model: {name: svg, width: 2, code_size: 6, latents: 3, rnn_size: 8, context: 2}
data: {name: stochastic_mnist}
train: {seq_len: 6}
eval: {open_loop_ctx: 2, eval_seq_len: 6}
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yml"
    path.write_text(TINY)
    return path


def spread(model):
    """Gives every variable values of its own, so that a swap would be seen."""
    for i, variable in enumerate(model.variables):
        draw = tf.random.stateless_uniform(variable.shape, [i, 7], 0.2, 0.4)
        variable.assign(draw if "var" in variable.name else draw - 0.3)


def as_torch(layer):
    """{name: array} as PyTorch would save the network."""
    arrays = collections.OrderedDict()
    for i, (suffix, variable, axes) in enumerate(importer.variables(layer)):
        arrays[f"m{i}.{suffix}"] = np.transpose(tf.convert_to_tensor(variable).numpy(), np.argsort(axes))
    return arrays


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_archive, write_stream], ids=["zip", "stream"])
def test_an_imported_model_predicts_the_same(tiny, tmp_path, monkeypatch, write):
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    settings = importer.as_released(tiny)
    model = tfvp.build_model(settings)
    spread(model)
    stored, content = [], {}
    for theirs, ours in importer.NETWORKS.items():
        content[theirs] = collections.OrderedDict()
        for name, array in as_torch(getattr(model, ours)).items():
            stored.append(Stored(array, str(len(stored))))
            content[theirs][name] = stored[-1]
    write(tmp_path / "model.pth", content, stored)
    words = ("svg", tmp_path / "model.pth", "--config", tiny, "--logdir", tmp_path / "logs", "--name", "a")
    cli.execute(["import", *map(str, words)])
    imported = tfvp.load_run(tmp_path / "logs" / "a")
    context = tf.random.stateless_uniform([2, 2, 64, 64, 1], [1, 2])
    for mine, theirs in zip(model.rollout(context, 4, samples=2), imported.rollout(context, 4, samples=2)):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_weights_that_a_run_has_are_not_replaced(tmp_path):
    model = tfvp.build_model("demo")
    for name in ("a", "b"):
        (tmp_path / f"{name}.pth").write_text(name)
    first = write_run(model, config.load("demo"), tmp_path, tmp_path / "a.pth")
    assert write_run(model, config.load("demo"), tmp_path, str(tmp_path / "a.pth")).path == first.path
    with pytest.raises(UserError, match="demo has weights that are not those of .*b.pth; .* --name"):
        write_run(model, config.load("demo"), tmp_path, tmp_path / "b.pth")
    second = write_run(model, config.load("demo", name="other"), tmp_path, tmp_path / "b.pth")
    assert second.path == tmp_path / "other"
    (first.path / "model" / "status.json").write_text("{}")  # as of a training
    with pytest.raises(UserError, match="demo has weights that are not those of .*a.pth"):
        write_run(model, config.load("demo"), tmp_path, tmp_path / "a.pth")


@pytest.mark.parametrize("model, theirs", [("svg", "SVG"), ("htsr", "a published CW-VAE"), ("iam4vp", "IAM4VP")])
def test_a_configuration_of_another_model_is_refused(model, theirs):
    with pytest.raises(UserError, match=f"^demo does not describe {theirs}"):
        cli.execute(["import", model, "x.pth", "--config", "demo"])


def test_a_checkpoint_written_by_pytorch(tiny, tmp_path):
    torch = pytest.importorskip("torch")
    model = tfvp.build_model(config.load(tiny, importer.AS_RELEASED))
    spread(model)
    content = {
        theirs: collections.OrderedDict((k, torch.tensor(v)) for k, v in as_torch(getattr(model, ours)).items())
        for theirs, ours in importer.NETWORKS.items()
    }
    for legacy in (True, False):
        torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=not legacy)
        other = tfvp.build_model(config.load(tiny, importer.AS_RELEASED))
        importer.load(other, torch_file.read(tmp_path / "model.pth"))
        for mine, theirs in zip(model.variables, other.variables, strict=True):
            np.testing.assert_array_equal(tf.convert_to_tensor(mine), tf.convert_to_tensor(theirs))


def test_imported_models_generate_as_the_released_code_does(tiny):
    for prior, mode, sampled in (("learned", "batch", True), ("fixed", "running", False)):
        model = importer.as_released(tiny, [f"model.prior={prior}"]).model
        assert (model.bn_mode, model.sample_context, model.skip_frame) == (mode, sampled, "reference")
    chosen = importer.as_released(tiny, ["model.bn_mode=running", "model.skip_frame=last"]).model
    assert (chosen.bn_mode, chosen.sample_context, chosen.skip_frame) == ("running", True, "reference")


def test_running_statistics_are_not_invented(tiny):
    model = tfvp.build_model(config.load(tiny))
    content = {theirs: as_torch(getattr(model, ours)) for theirs, ours in importer.NETWORKS.items()}
    content["decoder"] = {k: v for k, v in content["decoder"].items() if "running" not in k}
    with pytest.raises(UserError, match="decoder of the checkpoint has no running statistics.*model.bn_mode=batch"):
        importer.load(model, content)
    importer.load(tfvp.build_model(importer.as_released(tiny)), content)


def test_checkpoints_that_do_not_fit_are_refused(tiny):
    model = tfvp.build_model(config.load(tiny))
    content = {theirs: as_torch(getattr(model, ours)) for theirs, ours in importer.NETWORKS.items()}
    with pytest.raises(UserError, match="has no prior; for SVG-FP set model.prior=fixed"):
        importer.load(model, {k: v for k, v in content.items() if k != "prior"})
    content["encoder"].popitem()
    with pytest.raises(UserError, match="encoder: the checkpoint has"):
        importer.load(model, content)
    content["encoder"] = {k: v[..., :1] for k, v in as_torch(model.encoder).items()}
    with pytest.raises(UserError, match="has shape"):
        importer.load(model, content)
    with pytest.raises(UserError, match="not a mapping"):
        importer.load(model, [1])
