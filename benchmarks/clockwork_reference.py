"""CW-VAE's own code beside tfvp's, for `tfvp benchmark against`; see `references.py`.

It is a TensorFlow graph of the first generation, and its optimizer Keras 2's: it needs TensorFlow 2.15 or older.
"""

import pathlib
import sys

CASES = {
    "cwvae": [
        {"name": "CW-VAE", "adapter": "CWVAE", "config": "cwvae/mmnist", "file": "cwvae.py"}
        | {"home": "https://github.com/vaibhavsaxena11/cwvae"}
        | {"batch": 4, "horizon": 100, "samples": 1, "calls": ("train", "rollout")},
    ],
}


class CWVAE:
    """CW-VAE by its cwvae.py with the values of configs/mmnist.yml, trained as train.py and rolled out as eval.py does.

    Args:
        folder: of the reference's code.
        sizes: as for the others.
    """

    def __init__(self, folder, sizes):
        sys.path.insert(0, folder)
        import tensorflow.compat.v1 as tf
        import yaml

        tf.disable_v2_behavior()
        tf.set_random_seed(0)
        import cwvae
        import tools

        configs = [pathlib.Path(folder, "configs", f"{name}.yml").read_text() for name in ("base_config", "mmnist")]
        settings = {key: value for text in configs for key, value in yaml.safe_load(text).items()}
        self.settings = tools.AttrDict(settings, open_loop_ctx=sizes["context"], channels=sizes["channels"])
        self.tf, self.sizes, self.session = tf, sizes, tf.Session()
        self.parts = cwvae.build_model(self.settings)
        self.weights = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)

    def train(self):
        """A function that makes one update with a batch, and returns the loss."""
        tf, loss = self.tf, self.parts["training"]["loss"]
        optimizer = tf.keras.optimizers.Adam(learning_rate=self.settings.lr, epsilon=1e-4)
        gradients = optimizer.get_gradients(loss, self.weights)
        clipped, _ = tf.clip_by_global_norm(gradients, self.settings.clip_grad_norm_by)
        update = optimizer.apply_gradients(zip(clipped, self.weights))
        self.session.run(tf.global_variables_initializer())
        fed = self._clips(self.sizes["batch"], self.sizes["frames"])
        return lambda: self.session.run([loss, update], fed)[0]

    def rollout(self):
        """A function that predicts the frames after one context, and returns their mean."""
        self.session.run(self.tf.global_variables_initializer())
        fed = self._clips(1, self.sizes["context"] + self.sizes["horizon"])
        predicted = self.parts["open_loop_obs_decoded"]["prior_multistep"]
        return lambda: self.session.run(predicted, fed).mean()

    def facts(self):
        count = sum(variable.shape.num_elements() for variable in self.weights)
        return {"parameters": count, "library": f"TensorFlow {self.tf.__version__}"}

    def _clips(self, count, frames):
        import numpy as np

        shape = (count, frames, self.sizes["height"], self.sizes["width"], self.sizes["channels"])
        return {self.parts["training"]["obs"]: np.random.default_rng(0).uniform(size=shape)}
