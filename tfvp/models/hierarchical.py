"""Hierarchical video prediction: a structure generator, and an image generator that renders its label maps."""

from typing import Literal

import tensorflow as tf

from tfvp import config as configuration
from tfvp import registry, weights
from tfvp.errors import UserError
from tfvp.layers import label_maps, unroll, vgg
from tfvp.models.structure import StructureGenerator
from tfvp.models.updates import Untracked
from tfvp.models.vid2vid import ImageGenerator
from tfvp.registry import register


@register("model", "hierarchical")
class HierarchicalVideo(ImageGenerator):
    """Lee et al. (ICLR 2021, arXiv 2104.06697): structure first, then vid2vid (arXiv 1808.06601).

    The structure generator is trained in a run of its own, which `structure_run` names; it is
    taken over, and stays as it is, while the image generator learns to render true label maps.
    Together they observe frames with label maps and imagine both (see `tfvp.layers.label_maps`).

    A clip is rendered in chunks of `chunk` frames, from its first `window` - 1 true frames on, each
    frame from the generated ones before it and without gradients through them. Every chunk makes
    one update of the generator and one of each discriminator.

    Loss terms, all per chunk: `loss` (the generator's, the weighted sum of the next five), gan,
    feature, flow, warp, perceptual; and d_image and d_temporal, the discriminators' own.

    Args:
        image_shape: (height, width, 4); sides divide by 4 and by what the structure needs.
        structure: options of `StructureGenerator`, as in the run that is taken over.
        structure_run: that run; read once, when training begins.
        window: label maps that a frame is rendered from, its own included; one frame less.
        chunk: frames between updates.
        width, blocks: of the image generator (see `tfvp.layers.vid2vid.FrameGenerator`).
        foreground: classes that a branch of their own renders, for example [13], cars; [] = none.
        discriminator_width: channels of the first convolution.
        temporal_scales: temporal discriminators, on every frame, every third, ...
        double_every: batches after which clips are rendered twice as far, beginning with
            `first_chunks`, up to train.seq_len; 0 = all of the clip from the start.
        double_every_epochs: the same in epochs, as published; 0 = off.
        first_chunks: chunks that clips are rendered for before they double.
        flow_scale: pixels per unit of the flow head.
        feature_weight, flow_weight, warp_weight, perceptual_weight: of the loss terms.
        perceptual: vgg16, whose weights training then needs, or off; auto = vgg16 where its weights are installed.
            A run's config.yml says which it was.
    """

    needs = ("labels", "flow", "flow3")
    stochastic = True
    paper = "Lee et al. 2021, arXiv 2104.06697"
    small_image_shape = (16, 16, 4)
    _tiny = {
        "structure": {"classes": 3, "code_size": 4, "latents": 3, "rnn_size": 5, "width": 4, "context": 3},
        "width": 4,
        "blocks": 1,
        "discriminator_width": 4,
        "perceptual": "off",
        "flow_scale": 0.25,
    }
    small_variants = {"": {**_tiny, "window": 2, "chunk": 7, "foreground": [1], "temporal_scales": 1}}

    def __init__(
        self,
        image_shape,
        structure: dict = {},  # noqa: B006 - never changed
        structure_run: str = "",
        window: int = 6,
        chunk: int = 10,
        width: int = 128,
        blocks: int = 9,
        foreground: list[int] = (13,),
        discriminator_width: int = 64,
        temporal_scales: int = 2,
        double_every: int = 0,
        double_every_epochs: int = 0,
        first_chunks: int = 1,
        flow_scale: float = 20.0,
        feature_weight: float = 10.0,
        flow_weight: float = 10.0,
        warp_weight: float = 10.0,
        perceptual_weight: float = 10.0,
        perceptual: Literal["auto", "vgg16", "off"] = "auto",
    ):
        perceptual = self.resolve_options({"perceptual": perceptual})["perceptual"]
        options = {
            "window": window,
            "chunk": chunk,
            "width": width,
            "blocks": blocks,
            "foreground": foreground,
            "discriminator_width": discriminator_width,
            "temporal_scales": temporal_scales,
            "double_every": double_every,
            "double_every_epochs": double_every_epochs,
            "first_chunks": first_chunks,
            "flow_scale": flow_scale,
            "feature_weight": feature_weight,
            "flow_weight": flow_weight,
            "warp_weight": warp_weight,
            "perceptual_weight": perceptual_weight if perceptual == "vgg16" else 0.0,
        }
        structure_generator = make_structure(tuple(image_shape), structure)
        super().__init__(image_shape, structure_generator.classes, options)
        self.structure = structure_generator
        self.structure.built = True
        self.structure.trainable = False
        self._pretrained = Untracked({"structure": structure_run})
        self.size_multiple = max(4, structure_generator.size_multiple)
        self.check_image_size()

    @classmethod
    def resolve_options(cls, options):
        if options["perceptual"] != "auto":
            return options
        return {**options, "perceptual": "vgg16" if weights.available(vgg.WEIGHTS) else "off"}

    @property
    def pretrained(self):
        return self._pretrained.values

    @property
    def prediction_options(self):
        return self.structure.prediction_options

    # Prediction.

    def observe(self, context, state=None, seed=None):
        before = None if state is None else state["structure"]
        return {"structure": self.structure.observe(context, before, seed), **self._newest(context, state)}

    def observe_samples(self, context, seeds):
        newest = {k: tf.repeat(v, tf.shape(seeds)[1], axis=0) for k, v in self._newest(context, None).items()}
        return {"structure": self.structure.observe_samples(context, seeds), **newest}

    def _newest(self, context, state):
        """The last `window` - 1 frames and label maps, of a context and of the state before it."""
        frames, labels = 2.0 * label_maps.rgb_of(context) - 1.0, label_maps.labels_of(context, self.classes)
        if state is not None:
            frames = tf.concat([state["previous"], frames], axis=1)
            labels = tf.concat([state["labels"], labels], axis=1)
        count = self.window - 1
        return {
            "previous": tf.ensure_shape(frames[:, -count:], [None, count, *self.image_shape[:2], 3]),
            "labels": tf.ensure_shape(labels[:, -count:], [None, count, *self.image_shape[:2]]),
        }

    def imagine(self, state, horizon, seed=None):
        model, before = self.structure, state["structure"]
        seeds = before["seed"] if seed is None else tf.cast(seed, tf.int64)
        draws = model.prior_draws(seeds, before["frame"], horizon)
        carried = {"structure": model.carried(before), "previous": state["previous"], "labels": state["labels"]}

        def step(draws, carried):
            flat, structure = model.predict_next(carried["structure"], draws)
            labels = tf.concat([carried["labels"], label_maps.labels_of(flat, self.classes)[:, None]], axis=1)
            frame = self.render_frame(carried["previous"], labels)["final"]
            after = {
                "structure": structure,
                "previous": tf.concat([carried["previous"][:, 1:], frame[:, None]], axis=1),
                "labels": labels[:, 1:],
            }
            return label_maps.pack(0.5 * (frame + 1.0), labels[:, -1]), after

        like = tf.TensorSpec([None, *self.image_shape], tf.float32)
        video, after = unroll.scan(step, draws, carried, like)
        structure = {**before, **after["structure"], "seed": seeds, "frame": before["frame"] + horizon}
        return video, {**after, "structure": structure}


def make_structure(image_shape, options):
    """A structure generator.

    Raises:
        UserError: an option that it does not have, or a value that it cannot take.
    """
    declared = registry.options("model", "hierarchical_structure")
    for key in options:
        if key not in declared:
            raise UserError(f"model.structure: unknown option {key!r}{registry.nearest(key, declared)}")
    values = {
        key: configuration.checked(value, declared[key].annotation, f"model.structure.{key}")
        for key, value in options.items()
    }
    return StructureGenerator(image_shape, **values)
