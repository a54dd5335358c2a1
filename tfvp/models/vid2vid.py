"""vid2vid (Wang et al. 2018, arXiv 1808.06601) as Lee et al. (ICLR 2021) train it: label maps to frames, one by one.

The generator makes frame t from label maps s and its own last frames x~ (section 3 of Wang et al.):

    x~_t = m_t * h~_t + (1 - m_t) * w~_t(x~_{t-1})

    ======  ===========================================================  ======================  ====================
    symbol  meaning                                                      here                    in the authors' code
    ======  ===========================================================  ======================  ====================
    s_t     label map, one-hot                                           "labels"                real_A, input_label
    x_t     true frame                                                   "real"                  real_B
    x~_t    generated frame                                              "final"                 fake_B, img_final
    h~_t    image made of s and earlier x~, before anything is warped    "raw"                   fake_B_raw, img_raw
    w~_t    flow to the previous frame, in pixels; w~_t(x): x warped     "flow"                  flow
    m_t     weight of h~_t, in [0, 1]                                    "weight"                weight
    w_t     reference flow of the true frames                            "flow" of a batch       flow_ref
    c_t     1 where |x_t - w_t(x_{t-1})|^2 < 0.02, summed over RGB       "confidence"            conf_ref
    D_I     discriminator of single frames with their label maps         discriminators[0]       netD
    D_V     discriminators of three frames, 1 or 3 apart, with flow      discriminators[1:]      netD_T
    ======  ===========================================================  ======================  ====================

Where there is a foreground branch, its image takes the place of h~_t and x~_t at the pixels of foreground classes.
`ImageGenerator.generator_terms` and `ImageGenerator.discriminator_losses` give the losses in these symbols.
"""

import copy
import functools

import tensorflow as tf

from tfvp import compat
from tfvp.errors import UserError
from tfvp.layers import adversarial, label_maps, unroll, vgg, vid2vid
from tfvp.models.base import VideoModel
from tfvp.models.updates import Untracked

EARLIER_FRAMES = 6  # generated frames that the temporal discriminators still see in the next chunk
IMAGES = {"final": 3, "raw": 3, "flow": 2, "weight": 1}  # what the generator returns for a frame, and its channels


class ImageGenerator(VideoModel):
    """The image generator, its discriminators and their training; see `HierarchicalVideo`.

    A clip is rendered in chunks of `chunk` frames, from its first `window` - 1 true frames on, each
    frame from the generated ones before it and without gradients through them. Every chunk makes
    one update of the generator and one of each discriminator.

    Args:
        image_shape: (height, width, 4).
        classes: of the label maps.
        options: the options of `HierarchicalVideo` that are about the image generator.
    """

    own_train_function = True
    renders_labels = True
    updates_per_batch = 2  # at least: the generator's and the image discriminator's
    loss_names = ("loss", "gan", "feature", "flow", "warp", "perceptual", "d_image", "d_temporal")

    def __init__(self, image_shape, classes, options):
        super().__init__(image_shape)
        window, chunk, first, scales = (options[k] for k in ("window", "chunk", "first_chunks", "temporal_scales"))
        if window < 2 or min(chunk, first) < 1 or not 0 <= scales <= 2:
            raise UserError(
                "model.window must be at least 2, model.chunk and model.first_chunks at least 1, and"
                " model.temporal_scales 0, 1 or 2"
            )
        if options["double_every"] and options["double_every_epochs"]:
            raise UserError(
                "model.double_every and model.double_every_epochs say the same in batches and epochs; set one"
            )
        self.window, self.chunk, self.first_chunks, self.classes = window, chunk, first, classes
        self.double_every, self.double_every_epochs = options["double_every"], options["double_every_epochs"]
        self.flow_scale = options["flow_scale"]
        self.term_weights = {name: options[f"{name}_weight"] for name in ("feature", "flow", "warp", "perceptual")}
        self.min_context = window - 1
        self.foreground = [c for c in options["foreground"] if c < classes]
        self.generator = vid2vid.FrameGenerator(
            options["width"], options["blocks"], bool(self.foreground), options["flow_scale"]
        )
        self.generator.build((classes * window, 3 * (window - 1)))
        self.discriminators = [vid2vid.PatchDiscriminator(options["discriminator_width"]) for _ in range(1 + scales)]
        self.discriminator_count = len(self.discriminators)
        self.discriminators[0].build((None, None, None, classes + 3))
        for discriminator in self.discriminators[1:]:
            discriminator.build((None, None, None, 13))
        self.spacings = [3**scale for scale in range(scales)]
        self._discriminator_optimizers = Untracked([])

    @property
    def main_variables(self):
        return self.generator.trainable_variables

    @property
    def optimizers(self):
        return [self.optimizer, *self._discriminator_optimizers.values]

    def compile(self, optimizer, discriminator_optimizers=(), **kwargs):
        """As `VideoModel.compile`.

        Args:
            optimizer: the generator's.
            discriminator_optimizers: one for each discriminator. Defaults to copies of the generator's.

        Raises:
            UserError: options that one graph call per chunk cannot follow, or VGG16's weights are missing.
        """
        if kwargs.get("steps_per_execution", 1) != 1:
            raise UserError(
                "hierarchical calls its graph once per chunk, and later in training there are more chunks in a clip;"
                " leave train.steps_per_execution at 1"
            )
        if kwargs.get("average") is not None:
            raise UserError("hierarchical keeps no moving average of its adversaries; set train.ema_decay to 0")
        if self.term_weights["perceptual"]:
            try:
                vgg.layers()
            except UserError as error:
                raise UserError(f"model.perceptual=vgg16: {error}; or set model.perceptual=off") from None
        config = optimizer.get_config()
        optimizers = list(discriminator_optimizers) or [
            type(optimizer).from_config(copy.deepcopy(config)) for _ in self.discriminators
        ]
        super().compile(optimizer, **kwargs)
        self.compiled_by_xla = kwargs.get("jit_compile") is True
        for other, discriminator in zip(optimizers, self.discriminators, strict=True):
            compat.build_optimizer(other, discriminator.trainable_variables)
        self._discriminator_optimizers.values = optimizers

    # Training.

    @property
    def batches_to_double(self):
        """Batches after which clips are rendered twice as far; 0 = as far as they go from the start."""
        return self.double_every or self.double_every_epochs * self.steps_per_epoch

    def chunks_at(self, batch, frames):
        """Chunks that batch number `batch` is rendered in, for clips of `frames` frames."""
        most = (frames - self.window + 1) // self.chunk
        if most < 1:
            raise UserError(
                f"train.seq_len={frames} is too short: hierarchical needs model.window - 1 + model.chunk ="
                f" {self.window - 1 + self.chunk} frames"
            )
        every = self.batches_to_double
        return most if not every else min(most, self.first_chunks * 2 ** min(30, batch // every))

    def batches_after(self, updates):
        every = self.batches_to_double
        if not every:
            return updates // self.most_chunks
        updates, batches, chunks = tf.cast(updates, tf.int64), tf.zeros([], tf.int64), self.first_chunks
        while chunks < self.most_chunks:
            spent = tf.minimum(updates, every * chunks)
            batches, updates, chunks = batches + spent // chunks, updates - spent, min(2 * chunks, self.most_chunks)
        return batches + updates // self.most_chunks

    def build_on(self, spec, trace=True):
        """As `VideoModel.build_on`; the variables are there already, so that nothing is traced."""
        self.most_chunks = self.chunks_at(2**62, spec["video"].shape[1])
        self.check_image_size()
        self._finish_build(self.loss_names)

    def make_train_function(self, force=False):
        """One call of a graph per chunk."""
        if self.train_function is None or force:
            strategy = self.distribute_strategy
            graph = functools.partial(tf.function, autograph=False)
            compiled = functools.partial(graph, jit_compile=True) if self.compiled_by_xla else lambda f: f
            first, step = compiled(self.before_first_chunk), compiled(self.chunk_step)

            def run(function, *arguments):
                return strategy.run(function, args=arguments)

            begin, update = (graph(functools.partial(run, one), jit_compile=False) for one in (first, step))

            def train_function(iterator):
                batch = next(iterator)
                carried = begin(batch)
                for number in range(self.chunks_at(int(self.step), self.clip_length)):
                    start = tf.constant(self.window - 1 + number * self.chunk)
                    logs, carried = update(batch, carried, start)
                return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

            self.train_function = train_function
        return self.train_function

    @property
    def clip_length(self):
        """Frames that are rendered at most in a clip, and those before them."""
        return self.window - 1 + self.most_chunks * self.chunk

    def before_first_chunk(self, batch):
        """{"previous" [B, window - 1, H, W, 3], "earlier" [B, 0, H, W, 3]}: true frames in [-1, 1], none generated."""
        previous = 2.0 * label_maps.rgb_of(batch["video"][:, : self.window - 1]) - 1.0
        return {"previous": previous, "earlier": previous[:, :0]}

    def chunk_step(self, batch, carried, start):
        """Renders one chunk and updates all networks.

        Args:
            batch: the batch of this replica.
            carried: {"previous", "earlier"}: the last frames as generated; see `before_first_chunk`.
            start: number of the first frame to render, an integer scalar.

        Returns:
            (logs, what the next chunk is given as `carried`).
        """
        inputs = self.chunk_inputs(batch, carried, start)
        terms = self.minimize(self.generator_terms, self.generator.trainable_variables, self.optimizer, inputs)
        inputs = {**inputs, **{name: tf.stop_gradient(terms.pop(name)) for name in ("final", "raw")}}
        losses = self.discriminator_losses(inputs["earlier"].shape[1])
        for discriminator, optimizer, loss in zip(self.discriminators, self._discriminator_optimizers.values, losses):
            if loss is None:
                continue
            name, function = loss
            values = self.minimize(
                lambda data, f=function: {"loss": f(data)}, discriminator.trainable_variables, optimizer, inputs
            )
            terms[name] = terms.get(name, 0.0) + values["loss"]
        terms.setdefault("d_temporal", tf.zeros_like(terms["loss"]))
        previous = tf.concat([inputs["previous"], inputs["final"]], axis=1)[:, -(self.window - 1) :]
        earlier = tf.concat([inputs["earlier"], inputs["final"]], axis=1)[:, -EARLIER_FRAMES:]
        return self._track(terms), {"previous": previous, "earlier": earlier if self.spacings else inputs["earlier"]}

    def chunk_inputs(self, batch, carried, start):
        """What the losses of one chunk need, {name: [B, n, ...]}; frames are in [-1, 1]. See `chunk_step`."""
        before, kept = self.window - 1, carried["earlier"].shape[1]
        frames = 2.0 * label_maps.rgb_of(batch["video"]) - 1.0
        labels = label_maps.labels_of(batch["video"], self.classes)

        def section(x, first, count):
            return tf.gather(x, first + tf.range(count), axis=1)

        inputs = {
            "real": section(frames, start, self.chunk),
            "real_before": section(frames, start - 1, self.chunk),
            "previous": carried["previous"],
            "labels": section(labels, start - before, before + self.chunk),
            "earlier": carried["earlier"],
            "earlier_real": section(frames, start - kept, kept),
        }
        for spacing in self.spacings or [1]:
            flow = batch["flow" if spacing == 1 else f"flow{spacing}"]
            inputs[f"flow{spacing}"] = section(flow, start - kept, kept + self.chunk)
        inputs["flow"] = inputs["flow1"][:, kept:]
        inputs["confidence"] = adversarial.confidence(inputs["real"], inputs["real_before"], inputs["flow"])
        return inputs

    def render(self, previous, labels):
        """Renders label maps, one after the other.

        Args:
            previous: [B, window - 1, H, W, 3] in [-1, 1].
            labels: [B, window - 1 + n, H, W] int32.

        Returns:
            {"final", "raw", "flow", "weight"}: [B, n, H, W, channels]; see `FrameGenerator`.
        """
        count = labels.shape[1] - (self.window - 1)

        def step(previous, t):
            images = self.render_frame(previous, tf.gather(labels, t + tf.range(self.window), axis=1))
            newest = tf.stop_gradient(images["final"])[:, None]
            joined = tf.concat([images[name] for name in IMAGES], axis=-1)
            return joined, tf.concat([previous[:, 1:], newest], axis=1)

        like = tf.TensorSpec([previous.shape[0], *self.image_shape[:2], sum(IMAGES.values())], tf.float32)
        joined, _ = unroll.generate(step, previous, count, like)
        joined.set_shape([None, count, None, None, None])
        return dict(zip(IMAGES, tf.split(joined, list(IMAGES.values()), axis=-1)))

    def render_for_training(self, previous, labels):
        """As `render`: a roll-out without gradients, then all of its frames in one pass with them.

        As no gradient flows from a frame into the ones before it, the gradients are those of `render`.
        """
        count, window = labels.shape[1] - (self.window - 1), self.window
        frames = tf.concat([previous, tf.stop_gradient(self.render(previous, labels)["final"])], axis=1)
        inputs = (
            tf.stack([x[:, t : t + size] for t in range(count)], axis=1)
            for x, size in ((frames, window - 1), (labels, window))
        )
        images = self.render_frame(*(tf.reshape(x, [-1, *x.shape[2:]]) for x in inputs))
        return {name: tf.reshape(images[name], [-1, count, *images[name].shape[1:]]) for name in IMAGES}

    def render_frame(self, previous, labels):
        """One frame, from the frames before [B, window - 1, H, W, 3] and labels [B, window, H, W]."""
        height, width = self.image_shape[:2]
        labels = tf.ensure_shape(labels, [None, self.window, height, width])
        stack = tf.transpose(tf.one_hot(labels, self.classes, dtype=self.compute_dtype), [0, 2, 3, 1, 4])
        stack = tf.reshape(stack, [-1, height, width, self.window * self.classes])
        past = tf.reshape(tf.transpose(previous, [0, 2, 3, 1, 4]), [-1, height, width, 3 * (self.window - 1)])
        return self.generator(stack, past, self.foreground_mask(labels[:, -1]))

    def foreground_mask(self, labels):
        """1 where a class is rendered by the foreground branch, float32 [B, H, W, 1]; None without such a branch."""
        masks = [tf.cast(labels == c, tf.float32) for c in self.foreground]
        return tf.add_n(masks)[..., None] if masks else None

    def generator_terms(self, inputs):
        """The generator's loss terms [B], and "final" and "raw", the frames that it generated.

        In the symbols of this module, with the names of the authors' code in brackets and means over pixels:

            gan         LSGAN of D_I for x~ and h~ [G_GAN], and of each D_V for x~ [G_T_GAN]
            feature     feature_weight * matching of features in the same discriminators [G_GAN_Feat, G_T_GAN_Feat]
            flow        flow_weight * |c (w~_t - w_t)| [F_Flow]
            warp        warp_weight * (|c (w~_t(x_{t-1}) - x_t)| [F_Warp] + |c (x~_t - w_t(x~_{t-1}))| [G_Warp])
            perceptual  perceptual_weight * distance in VGG16 of x~ and of h~ from x [G_VGG]

        `gan`, `flow` and the first part of `warp` (its L_W) are the learning objective of Wang et al.; `feature` and
        `perceptual` are those of pix2pixHD (arXiv 1711.11585).
        """
        images = self.render_for_training(inputs["previous"], inputs["labels"])
        real, confidence = inputs["real"], inputs["confidence"]
        gan, feature = 0.0, 0.0
        *fakes, truth = self._image_logits(inputs, images["final"], images["raw"], real)
        for logits in fakes:
            gan += adversarial.least_squares(logits, 1.0)
            feature += adversarial.feature_matching(logits, truth)
        for scale, spacing in enumerate(self.spacings):
            triplets = self._triplets({**inputs, "final": images["final"]}, spacing)
            if triplets is not None:
                logits, truth = adversarial.logits_of(self.discriminators[1 + scale], triplets)
                gan += adversarial.least_squares(logits, 1.0)
                feature += adversarial.feature_matching(logits, truth)
        moved = adversarial.warped(inputs["real_before"], images["flow"])
        before = tf.stop_gradient(tf.concat([inputs["previous"][:, -1:], images["final"][:, :-1]], axis=1))
        steady = adversarial.warped(before, inputs["flow"])
        warp = adversarial.l1(moved, real, confidence) + adversarial.l1(images["final"], steady, confidence)
        terms = {
            "feature": self.term_weights["feature"] * feature,
            "flow": self.term_weights["flow"] * adversarial.l1(images["flow"], inputs["flow"], confidence),
            "warp": self.term_weights["warp"] * warp,
            "perceptual": tf.zeros_like(gan),
        }
        if self.term_weights["perceptual"]:
            distance = adversarial.perceptual(images["final"], real) + adversarial.perceptual(images["raw"], real)
            terms["perceptual"] = self.term_weights["perceptual"] * distance
        loss = gan + tf.add_n(list(terms.values()))
        return {"loss": loss, "gan": gan, **terms, "final": images["final"], "raw": images["raw"]}

    def discriminator_losses(self, kept):
        """For each discriminator (term, inputs -> its loss [B]), or None where it sees no frames in this chunk.

        LSGAN, with the authors' names in brackets: for D_I, 1/2 of the sum over x~ and h~ of [D_fake] + [D_real];
        for each D_V, 1/2 of ([D_T_fake] + [D_T_real]) of x~.

        Args:
            kept: generated frames of earlier chunks that are still there.
        """

        def image(inputs):
            *fakes, real = self._image_logits(inputs, inputs["final"], inputs["raw"], inputs["real"])
            fakes = [adversarial.least_squares(logits, 0.0) for logits in fakes]
            return 0.5 * (2.0 * adversarial.least_squares(real, 1.0) + tf.add_n(fakes))

        def temporal(scale, spacing):
            if not adversarial.triplet_ends(kept, self.chunk, spacing):
                return None

            def loss(inputs):
                fake, real = adversarial.logits_of(self.discriminators[1 + scale], self._triplets(inputs, spacing))
                return 0.5 * (adversarial.least_squares(fake, 0.0) + adversarial.least_squares(real, 1.0))

            return "d_temporal", loss

        return [("d_image", image), *(temporal(*pair) for pair in enumerate(self.spacings))]

    def _image_logits(self, inputs, *videos):
        """The image discriminator's outputs for each of several videos with the labels of this chunk."""
        one_hot = tf.one_hot(inputs["labels"][:, self.window - 1 :], self.classes, dtype=tf.float32)
        return adversarial.logits_of(self.discriminators[0], [tf.concat([one_hot, video], axis=-1) for video in videos])

    def _triplets(self, inputs, spacing):
        """What a temporal discriminator sees of (generated, true) frames, or None."""
        ends = adversarial.triplet_ends(inputs["earlier"].shape[1], self.chunk, spacing)
        if not ends:
            return None
        sides = ((inputs["earlier"], inputs["final"]), (inputs["earlier_real"], inputs["real"]))
        flows = inputs[f"flow{spacing}"]
        return [adversarial.triplets(tf.concat(side, axis=1), flows, ends, spacing, self.flow_scale) for side in sides]

    def loss_terms(self, batch, training):
        """The terms of a clip's first chunk."""
        self.chunks_at(0, batch["video"].shape[1])
        inputs = self.chunk_inputs(batch, self.before_first_chunk(batch), self.window - 1)
        terms = self.generator_terms(inputs)
        inputs = {**inputs, **{name: tf.stop_gradient(terms.pop(name)) for name in ("final", "raw")}}
        for name, function in filter(None, self.discriminator_losses(0)):
            terms[name] = terms.get(name, 0.0) + function(inputs)
        terms.setdefault("d_temporal", tf.zeros_like(terms["loss"]))
        return terms

    def reconstruct(self, video, seed=None):
        """The first frames as they are, the others rendered from their true label maps."""
        labels = label_maps.labels_of(video, self.classes)
        observed = label_maps.rgb_of(video[:, : self.window - 1])
        rendered = self.render(2.0 * observed - 1.0, labels)["final"]
        return label_maps.pack(tf.concat([observed, 0.5 * (rendered + 1.0)], axis=1), labels)
