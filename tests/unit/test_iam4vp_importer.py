"""A checkpoint of the released structure, imported into a run that predicts the same."""

import collections
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import tfvp
from tests.unit.test_torch_file import Stored, write_archive
from tfvp import cli, config
from tfvp.errors import UserError
from tfvp.importers import iam4vp as importer

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
