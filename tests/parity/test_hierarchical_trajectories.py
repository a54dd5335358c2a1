"""Thirty updates of hierarchical video prediction against the reference's own."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tests.parity.test_hierarchical_golden import assign, coder_variables, recurrent_variables
from tests.parity.trajectory import HELD_BACK, Trajectory, array
from tfvp.layers import label_maps
from tfvp.models.structure import StructureGenerator

pytestmark = pytest.mark.usefixtures("plain_graphs")


class LabelTrajectory(Trajectory):
    """A recorded run on label maps of rolling blocks."""

    def labels(self, number, shape):
        """Classes int [B, T, H, W] of the batch `number`."""
        batch, frames, height, width, _ = shape
        random = np.random.RandomState(self.case.seed * 1000 + 900 + number)
        base = random.randint(0, self.case.hyper["classes"], (batch, height // 4, width // 4))
        image = base.repeat(4, axis=1).repeat(4, axis=2)
        return np.stack([np.roll(image, 2 * t, axis=2) for t in range(frames)], axis=1)

    def video(self, number, shape):
        return label_maps.pack(np.zeros([*shape[:-1], 3], np.float32), self.labels(number, shape))


def test_structure_generator():
    case = golden.case("trajectory", "hierarchical_structure")
    hyper = case.hyper
    batch, frames, side = hyper["B"], hyper["n_past"] + hyper["n_future"], hyper["side"]
    shape = (batch, frames, side, side, label_maps.CHANNELS)
    model = StructureGenerator(
        shape[2:],
        classes=hyper["classes"],
        coder="64",
        code_size=hyper["g_dim"],
        latents=hyper["z_dim"],
        rnn_size=hyper["rnn_size"],
        predictor_layers=hyper["predictor_layers"],
        posterior_layers=hyper["posterior_layers"],
        prior_layers=hyper["prior_layers"],
        width=hyper["ae_size"],
        context=hyper["n_past"],
        beta=hyper["beta"],
    )
    model.build_on({"video": tf.TensorSpec(shape, tf.float32)})
    networks = [model.encoder, model.decoder, model.predictor, model.posterior, model.prior]  # as in `modules`
    variables = [v for n in networks[:2] for v in coder_variables(n)]
    variables += [v for n in networks[2:] for v in recurrent_variables(n)]
    assign(variables, case.parameters)
    draws = tf.Variable(tf.zeros([batch, frames - 1, *model.latent_shape]))
    model._draw = lambda seeds, stream, numbers: draws + 0.0
    run = LabelTrajectory(
        "hierarchical_structure",
        model,
        "hierarchical/kitti_structure.yml",
        (f"learning_rate={hyper['lr']}", f"batch_size={batch}", f"seq_len={frames}"),
        hyper["updates"],
    )

    def draw(number):
        height, width, latents = model.latent_shape
        values = run.random(number).standard_normal((frames - 1, batch, latents, height, width)).astype(np.float32)
        draws.assign(np.transpose(values, (1, 0, 3, 4, 2)))

    run.run(shape, lambda: dict(zip(case.parameters, (array(v) for v in variables))), draw)
    for term in ("loss", "nll", "kl"):
        run.check(term, run.logged(term))
    run.check("gradnorm_all", run.logged("grad_norm"))
    draw(HELD_BACK)
    terms = model.elbo(run.video(HELD_BACK, shape), tf.convert_to_tensor(draws), model.inference_mode)[0]
    run.check("heldback.loss_nll_kl", [np.mean(terms[name]) for name in ("loss", "nll", "kl")])
