"""A checkpoint of the released structure, imported into a run that predicts the same."""

import collections
import hashlib
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import tfvp
from tests.unit.test_torch_file import Stored, write_archive
from tfvp import catalogue, cli, config
from tfvp.errors import UserError
from tfvp.importers import iam4vp as importer
from tfvp.prediction import publish

pytestmark = pytest.mark.usefixtures("plain_graphs")

TINY = """
# Tests only.
model: {name: iam4vp, context: 3, horizon: 3, filters: 4, blocks: 3}
data: {name: moving_mnist, image_size: 16}
train: {seq_len: 6}
eval: {open_loop_ctx: 3, eval_seq_len: 6}
"""


@pytest.mark.slow
def test_an_imported_model_predicts_the_same(tmp_path, monkeypatch):
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    path = tmp_path / "tiny.yml"
    path.write_text(TINY)
    model = tfvp.build_model(config.load(path, importer.AS_RELEASED))
    for i, variable in enumerate(model.variables):
        variable.assign(tf.random.stateless_normal(variable.shape, [i, 5], stddev=0.1))
    stored, content = [], collections.OrderedDict()
    for name, (ours, order) in importer.variables(model).items():
        array = order.backward([tf.convert_to_tensor(v).numpy() for v in ours])
        stored.append(Stored(array, str(len(stored))))
        content["module." + name] = stored[-1]
    write_archive(tmp_path / "x.pth", {"epoch": 3, "state_dict": content}, stored)
    cli.execute(["import", "iam4vp", *map(str, (tmp_path / "x.pth", "--config", path, "--logdir", tmp_path / "logs"))])
    imported = tfvp.load_run(tmp_path / "logs" / "tiny")
    context = tf.random.stateless_uniform([2, 3, 16, 16, 1], [1, 2])
    for mine, theirs in zip(model.rollout(context, 5), imported.rollout(context, 5)):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    with pytest.raises(UserError, match="it lacks .* check model.blocks"):
        importer.assign(model, {"mask_token": np.zeros(2)})
    check_that_it_joins_the_trained_models(imported, tmp_path, monkeypatch)


def check_that_it_joins_the_trained_models(model, folder, monkeypatch):
    """Its card says where it comes from and what was imported; it is listed, and loads by its name."""
    monkeypatch.setenv("TFVP_ZOO", str(folder / "zoo"))
    document = {
        "protocol": dict.fromkeys(("name", "split", "context", "seq_len", "clips", "samples"), 1),
        "run": dict.fromkeys(("commit", "processor", "versions"), ""),
        "model": {"psnr": {"mean": 20.0}},
    }
    monkeypatch.setattr(publish, "_evaluated", lambda *_: document)  # slow, and tested with a trained run
    words = ["publish", "--logdir", str(folder / "logs" / "tiny"), "--name", "authors-tiny"]
    with pytest.raises(UserError, match="tiny was imported; say where .* --source"):
        cli.execute(words)
    cli.execute([*words, "--source", "Seo et al. 2023, https://example.org/x.pth", "--licence", "MIT"])
    entry = next(entry for entry in catalogue.trained() if entry["name"] == "authors-tiny")
    assert entry["training"] == "imported" and str(folder) not in str({**entry, "path": ""})
    assert entry["source"] == {
        "from": "Seo et al. 2023, https://example.org/x.pth",
        "files": {"x.pth": hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()},
    }
    for mine, theirs in zip(model.variables, tfvp.load_pretrained("authors-tiny").variables, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(mine), tf.convert_to_tensor(theirs), rtol=1e-3, atol=1e-6)
