"""vid2vid as Lee et al. (ICLR 2021) train it: rendering label maps, frame after frame."""

import copy

import tensorflow as tf

from tfvp import compat
from tfvp.errors import UserError
from tfvp.layers import adversarial, label_maps, unroll, vid2vid
from tfvp.models.base import VideoModel
from tfvp.models.updates import Untracked

KEPT = 6  # generated frames that the temporal discriminators still see in the next chunk
CONFIDENT = 0.02  # squared error over RGB in [-1, 1] below which a pixel of a flow counts


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

    def __init__(self, image_shape, classes, options):
        super().__init__(image_shape)
        window, chunk, scales = options["window"], options["chunk"], options["temporal_scales"]
        if window < 2 or chunk < 1 or not 0 <= scales <= 2:
            raise UserError("model.window must be at least 2, model.chunk at least 1, model.temporal_scales 0, 1 or 2")
        self.window, self.chunk, self.classes = window, chunk, classes
        self.double_every, self.flow_scale = options["double_every"], options["flow_scale"]
        self.term_weights = {name: options[f"{name}_weight"] for name in ("feature", "flow", "warp", "perceptual")}
        self.min_context = window - 1
        self.foreground = [c for c in options["foreground"] if c < classes]
        self.generator = vid2vid.FrameGenerator(
            options["width"], options["blocks"], bool(self.foreground), options["flow_scale"]
        )
        self.generator.build((classes * window, 3 * (window - 1)))
        self.discriminators = [vid2vid.PatchDiscriminator(options["discriminator_width"]) for _ in range(1 + scales)]
        self.discriminators[0].build((None, None, None, classes + 3))
        for discriminator in self.discriminators[1:]:
            discriminator.build((None, None, None, 13))
        self.spacings = [3**scale for scale in range(scales)]
        self.updates_per_batch = 2  # at least: the generator's and the image discriminator's
        self._others = Untracked([])

    @property
    def main_variables(self):
        return self.generator.trainable_variables

    @property
    def optimizers(self):
        return [self.optimizer, *self._others.values]

    def compile(self, optimizer, others=None, **kwargs):
        """As `VideoModel.compile`.

        Args:
            optimizer: the generator's.
            others: those of the discriminators; copies of the generator's where left out.

        Raises:
            UserError: options that one graph call per chunk cannot follow.
        """
        if kwargs.get("jit_compile") or kwargs.get("steps_per_execution", 1) != 1:
            raise UserError(
                "hierarchical calls its graph once per chunk and takes neither train.xla nor train.steps_per_execution;"
                " leave them at their defaults"
            )
        if kwargs.get("average") is not None:
            raise UserError("hierarchical keeps no moving average of its adversaries; set train.ema_decay to 0")
        config = optimizer.get_config()
        others = others or [type(optimizer).from_config(copy.deepcopy(config)) for _ in self.discriminators]
        super().compile(optimizer, **kwargs)
        for other, discriminator in zip(others, self.discriminators, strict=True):
            compat.build_optimizer(other, discriminator.trainable_variables)
        self._others.values = others

    # Training.

    def chunks_at(self, batch, frames):
        """Chunks that batch number `batch` is rendered in, for clips of `frames` frames."""
        most = (frames - self.window + 1) // self.chunk
        if most < 1:
            raise UserError(
                f"train.seq_len={frames} is too short: hierarchical needs model.window - 1 + model.chunk ="
                f" {self.window - 1 + self.chunk} frames"
            )
        return most if not self.double_every else min(most, 2 ** min(30, batch // self.double_every))

    def batches_after(self, updates):
        if not self.double_every:
            return updates // self.most_chunks
        updates, done, stage = tf.cast(updates, tf.int64), tf.zeros([], tf.int64), 1
        while stage < self.most_chunks:
            part = tf.minimum(updates, self.double_every * stage)
            done, updates, stage = done + part // stage, updates - part, min(2 * stage, self.most_chunks)
        return done + updates // self.most_chunks

    def build_on(self, spec):
        self.most_chunks = self.chunks_at(2**62, spec["video"].shape[1])
        super().build_on(spec)

    def make_train_function(self, force=False):
        """One call of a graph per chunk."""
        if self.train_function is None or force:
            strategy = self.distribute_strategy

            def begin(batch):
                return strategy.run(self.before_first_chunk, args=(batch,))

            def run(batch, carried, start):
                return strategy.run(self.chunk_step, args=(batch, carried, start))

            begin, update = (tf.function(f, jit_compile=False) for f in (begin, run))

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
        """{"previous" [B, window - 1, H, W, 3], "old" [B, 0, H, W, 3]}: true frames in [-1, 1], none generated."""
        previous = 2.0 * label_maps.rgb_of(batch["video"][:, : self.window - 1]) - 1.0
        return {"previous": previous, "old": previous[:, :0]}

    def chunk_step(self, batch, carried, start):
        """Renders one chunk and updates all networks.

        Args:
            batch: the batch of this replica.
            carried: {"previous", "old"}: the last frames as generated; see `before_first_chunk`.
            start: number of the first frame to render, an integer scalar.

        Returns:
            (logs, what the next chunk is given as `carried`).
        """
        part = self.cut(batch, carried, start)
        terms = self.minimize(self.generator_terms, self.generator.trainable_variables, self.optimizer, part)
        part = {**part, **{name: tf.stop_gradient(terms.pop(name)) for name in ("final", "raw")}}
        discriminators = zip(self.discriminators, self._others.values, self.discriminator_losses(part["old"].shape[1]))
        for discriminator, optimizer, loss in discriminators:
            if loss is not None:
                name, loss_of = loss
                found = self.minimize(
                    lambda p, f=loss_of: {"loss": f(p)}, discriminator.trainable_variables, optimizer, part
                )
                terms[name] = terms.get(name, 0.0) + found["loss"]
        terms.setdefault("d_temporal", tf.zeros_like(terms["loss"]))
        previous = tf.concat([part["previous"], part["final"]], axis=1)[:, -(self.window - 1) :]
        old = tf.concat([part["old"], part["final"]], axis=1)[:, -KEPT:] if self.spacings else part["old"]
        return self._track(terms), {"previous": previous, "old": old}

    def cut(self, batch, carried, start):
        """What the losses of one chunk need; frames are in [-1, 1]. See `chunk_step`."""
        before = self.window - 1
        frames, labels = (
            2.0 * label_maps.rgb_of(batch["video"]) - 1.0,
            label_maps.labels_of(batch["video"], self.classes),
        )

        def section(x, first, count):
            cut = x[:, first : first + count]
            cut.set_shape([x.shape[0], count, *x.shape[2:]])
            return cut

        kept = carried["old"].shape[1]
        part = {
            "real": section(frames, start, self.chunk),
            "real_before": section(frames, start - 1, self.chunk),
            "previous": carried["previous"],
            "labels": section(labels, start - before, before + self.chunk),
            "old": carried["old"],
            "old_real": section(frames, start - kept, kept),
        }
        for spacing in self.spacings or [1]:
            flow = batch["flow" if spacing == 1 else f"flow{spacing}"]
            part[f"flow{spacing}"] = section(flow, start - kept, kept + self.chunk)
        part["flow"] = part["flow1"][:, kept:]
        found = _each_frame(compat.warp, part["real_before"], part["flow"])
        error = tf.reduce_sum(tf.square(part["real"] - found), axis=-1, keepdims=True)
        part["confidence"] = tf.cast(error < CONFIDENT, tf.float32)
        return part

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
            made = self.render_frame(previous, labels[:, t : t + self.window])
            whole = tf.concat([made[name] for name in ("final", "raw", "flow", "weight")], axis=-1)
            newest = tf.stop_gradient(made["final"])[:, None]
            return whole, tf.concat([previous[:, 1:], newest], axis=1)

        like = tf.TensorSpec([None, *self.image_shape[:2], 9], tf.float32)
        whole, _ = unroll.generate(step, previous, count, like)
        whole.set_shape([None, count, None, None, None])
        return dict(zip(("final", "raw", "flow", "weight"), tf.split(whole, [3, 3, 2, 1], axis=-1)))

    def render_frame(self, previous, labels):
        """One frame, from the frames before [B, window - 1, H, W, 3] and labels [B, window, H, W]."""
        height, width = self.image_shape[:2]
        labels = tf.ensure_shape(labels, [None, self.window, height, width])
        stack = tf.transpose(tf.one_hot(labels, self.classes, dtype=self.compute_dtype), [0, 2, 3, 1, 4])
        stack = tf.reshape(stack, [-1, height, width, self.window * self.classes])
        past = tf.reshape(tf.transpose(previous, [0, 2, 3, 1, 4]), [-1, height, width, 3 * (self.window - 1)])
        return self.generator(stack, past, self._front(labels[:, -1]))

    def _front(self, labels):
        """1 where a class is rendered by the foreground branch, float32 [B, H, W, 1]."""
        masks = [tf.cast(labels == c, tf.float32) for c in self.foreground]
        return tf.add_n(masks)[..., None] if masks else None

    def generator_terms(self, part):
        """The generator's loss terms [B], and "final" and "raw", the frames that it made."""
        made = self.render(part["previous"], part["labels"])
        real, sure = part["real"], part["confidence"]
        gan, feature = 0.0, 0.0
        *fakes, truth = self._image_logits(part, made["final"], made["raw"], real)
        for logits in fakes:
            gan += adversarial.least_squares(logits, 1.0)
            feature += adversarial.feature_matching(logits, truth)
        for scale, spacing in enumerate(self.spacings):
            views = self._views({**part, "final": made["final"]}, spacing)
            if views is not None:
                logits, truth = logits_of(self.discriminators[1 + scale], views)
                gan += adversarial.least_squares(logits, 1.0)
                feature += adversarial.feature_matching(logits, truth)
        moved = _each_frame(compat.warp, part["real_before"], made["flow"])
        before = tf.stop_gradient(tf.concat([part["previous"][:, -1:], made["final"][:, :-1]], axis=1))
        steady = _each_frame(compat.warp, before, part["flow"])
        terms = {
            "feature": self.term_weights["feature"] * feature,
            "flow": self.term_weights["flow"] * adversarial.l1(made["flow"], part["flow"], sure),
            "warp": self.term_weights["warp"]
            * (adversarial.l1(moved, real, sure) + adversarial.l1(made["final"], steady, sure)),
            "perceptual": tf.zeros_like(gan),
        }
        if self.term_weights["perceptual"]:
            distance = adversarial.perceptual(made["final"], real) + adversarial.perceptual(made["raw"], real)
            terms["perceptual"] = self.term_weights["perceptual"] * distance
        return {
            "loss": gan + tf.add_n(list(terms.values())),
            "gan": gan,
            **terms,
            **{k: made[k] for k in ("final", "raw")},
        }

    def discriminator_losses(self, kept):
        """For each discriminator (term, part -> its loss [B]), or None where it sees no frames in this chunk."""

        def image(part):
            *fakes, real = self._image_logits(part, part["final"], part["raw"], part["real"])
            fakes = [adversarial.least_squares(logits, 0.0) for logits in fakes]
            return 0.5 * (2.0 * adversarial.least_squares(real, 1.0) + tf.add_n(fakes))

        def temporal(scale, spacing):
            if not adversarial.triplet_ends(kept, self.chunk, spacing):
                return None

            def loss(part):
                fake, real = logits_of(self.discriminators[1 + scale], self._views(part, spacing))
                return 0.5 * (adversarial.least_squares(fake, 0.0) + adversarial.least_squares(real, 1.0))

            return "d_temporal", loss

        return [("d_image", image), *(temporal(*pair) for pair in enumerate(self.spacings))]

    def _image_logits(self, part, *videos):
        """The image discriminator's outputs for each of several videos with the labels of this chunk."""
        one_hot = tf.one_hot(part["labels"][:, self.window - 1 :], self.classes, dtype=tf.float32)
        return logits_of(self.discriminators[0], [tf.concat([one_hot, video], axis=-1) for video in videos])

    def _views(self, part, spacing):
        """What a temporal discriminator sees of (generated, true) frames, or None."""
        ends = adversarial.triplet_ends(part["old"].shape[1], self.chunk, spacing)
        if not ends:
            return None
        sides = ((part["old"], part["final"]), (part["old_real"], part["real"]))
        flows = part[f"flow{spacing}"]
        return [adversarial.triplets(tf.concat(side, axis=1), flows, ends, spacing, self.flow_scale) for side in sides]

    def loss_terms(self, batch, training):
        """The terms of a clip's first chunk."""
        self.chunks_at(0, batch["video"].shape[1])
        part = self.cut(batch, self.before_first_chunk(batch), self.window - 1)
        terms = self.generator_terms(part)
        part = {**part, **{name: tf.stop_gradient(terms.pop(name)) for name in ("final", "raw")}}
        for loss in filter(None, self.discriminator_losses(0)):
            terms[loss[0]] = terms.get(loss[0], 0.0) + loss[1](part)
        terms.setdefault("d_temporal", tf.zeros_like(terms["loss"]))
        return terms

    def reconstruct(self, video, seed=None):
        """The first frames as they are, the others rendered from their true label maps."""
        labels = label_maps.labels_of(video, self.classes)
        known = label_maps.rgb_of(video[:, : self.window - 1])
        made = self.render(2.0 * known - 1.0, labels)["final"]
        return label_maps.pack(tf.concat([known, 0.5 * (made + 1.0)], axis=1), labels)


def logits_of(discriminator, videos):
    """A discriminator's outputs for each of several videos, in one pass: its norm keeps examples apart."""
    outputs = discriminator(tf.concat(videos, axis=0))
    parts = [[tf.split(feature, len(videos), axis=0) for feature in scale] for scale in outputs]
    return [[[feature[n] for feature in scale] for scale in parts] for n in range(len(videos))]


def _each_frame(function, frames, flows):
    """`function` of images and flows [N, ...], for videos [B, n, ...]."""
    result = function(*(tf.reshape(x, [-1, *x.shape[2:]]) for x in (frames, flows)))
    return tf.reshape(result, tf.shape(frames))
