"""tfvp's side of `tfvp benchmark against`: an adapter as `side.py` wants it."""


class Ours:
    """The training step that `tfvp train` makes, and the rollout of `VideoModel.rollout`, on noise.

    Args:
        folder: not used.
        sizes: as for the references, and "config", "overrides" and "chunk".
    """

    def __init__(self, folder, sizes):
        from tfvp import quiet

        quiet.import_tensorflow()
        from tfvp import config
        from tfvp.models.build import build_model
        from tfvp.training import strategies

        self.sizes = sizes
        self.settings = config.load(sizes["config"], sizes["overrides"])
        self.strategy = strategies.make_strategy(self.settings.train.devices, memory_growth=True)
        with self.strategy.scope():
            self.model = build_model(self.settings, None, sizes["batch"])

    def train(self):
        """A function that makes one step of `sizes["batch"]` clips, and returns the mean loss so far."""
        import tensorflow as tf

        from tfvp.training import loop
        from tfvp.training.steps import Stepper

        train = self.settings.train
        with self.strategy.scope():
            loop.compile_model(self.settings, self.model, train.steps_per_epoch or 1000)
        batch = {"video": self._noise(self.sizes["batch"], self.sizes["frames"])}
        batch["id"] = tf.range(self.sizes["batch"], dtype=tf.int64)
        stepper = Stepper(self.model, tf.data.Dataset.from_tensors(batch).repeat(), 1000, train.xla)

        def call():
            stepper.run(1)
            return stepper.read()["loss"]

        return call

    def rollout(self):
        """A function that predicts `sizes["horizon"]` frames of one clip, and returns their mean."""
        import numpy as np

        sizes = self.sizes
        self.model.xla_rollouts = self.settings.eval.xla
        context = self._noise(1, sizes["context"])

        def call():
            chunks = self.model.rollout(context, sizes["horizon"], samples=sizes["samples"], chunk=sizes["chunk"])
            return np.mean([chunk.numpy().mean() for chunk in chunks])

        return call

    def facts(self):
        import tensorflow as tf

        count = sum(int(tf.size(variable)) for variable in self.model.trainable_variables)
        return {"parameters": count, "library": f"TensorFlow {tf.__version__}"}

    def _noise(self, clips, frames):
        import tensorflow as tf

        video = tf.random.stateless_uniform([clips, frames, *self.model.image_shape], [0, 1])
        if "labels" in self.model.needs:
            labels = tf.floor(video[..., 3:] * self.model.classes) / 255.0
            video = tf.concat([video[..., :3], labels], axis=-1)
        return video
