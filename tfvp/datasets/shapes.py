"""Shapes of several classes that move and hide each other: a data set with true label maps, without a download."""

import typing

import numpy as np
import tensorflow as tf

from tfvp.datasets import base, digits
from tfvp.pipeline import draws
from tfvp.registry import register

CLASSES = ("background", "disc", "square", "triangle", "ring")
# RGB in [0, 1] of the classes; each clip shifts them a little.
COLOURS = np.array([(0.25, 0.3, 0.35), (0.85, 0.3, 0.25), (0.25, 0.7, 0.35), (0.3, 0.4, 0.9), (0.9, 0.8, 0.25)])
SHIFT = 0.12
STRIPES = 0.18  # how far stripes on shapes and background deviate in brightness
FASTEST = 0.045  # of the image's side, per frame
SMALLEST, LARGEST = 0.13, 0.2  # radius of a shape, of the image's shorter side


@register("dataset", "shapes")
class Shapes(base.GeneratedDataset):
    """Striped shapes in front of a striped background, bouncing off the borders, nearer ones in front.

    Classes: 0 background, 1 disc, 2 square, 3 triangle, 4 ring. The colours of a clip's shapes
    can only be known from its frames; positions and speeds are drawn anew for each clip.

    Args:
        settings: `base.Settings`.
        labels: true = give the label maps, too; none.
        clip_length: frames in a clip.
        num_shapes: shapes in a clip, each of a random class.
    """

    info = base.DatasetInfo(
        description="Striped shapes of four classes that move and hide each other, with true label maps.",
        homepage="https://en.wikipedia.org/wiki/Semantic_segmentation",
        licence="drawn by this package",
        fps=None,
        download="nothing is needed",
        layout="none",
        context=5,
        horizon=15,
    )
    provides = ("video", "labels")
    channels = (3,)
    counts = {"train": 20_000, "validation": 500, "test": 1_000}

    def __init__(
        self, settings, labels: typing.Literal["none", "true"] = "none", clip_length: int = 40, num_shapes: int = 3
    ):
        super().__init__(settings, labels=labels, clip_length=clip_length, num_shapes=num_shapes)
        base.at_least_one(clip_length=clip_length, num_shapes=num_shapes)

    def clip_lengths(self, split):
        return np.full(self.counts[split], self.options["clip_length"], np.int64)

    def element_spec(self, length):
        spec = super().element_spec(length)
        if self.options["labels"] != "none":
            spec["labels"] = tf.TensorSpec([length, *self.settings.image_size], tf.uint8)
        return spec

    def read(self, split, clips, starts, length, stride=1):
        random = draws.keys(self.name, split, self.settings.seed if split == "train" else 0, clips)
        video, labels = self.drawn(random, np.asarray(starts), length, stride)
        return {"video": video, **({"labels": labels} if self.options["labels"] != "none" else {})}

    def notes(self):
        return [f"classes: {', '.join(f'{n} {name}' for n, name in enumerate(CLASSES))}"]

    def generate(self, split, random, starts, length, stride):
        return self.drawn(random, np.asarray(starts), length, stride)[0]

    def drawn(self, random, starts, length, stride):
        """(frames uint8 [N, length, H, W, 3], classes uint8 [N, length, H, W])."""
        height, width = self.settings.image_size
        frames = starts[:, None] + np.arange(length) * stride
        rows, columns = (np.arange(n, dtype=np.float32) + 0.5 for n in (height, width))
        clip = draws.Draws(random)
        tint = _tint(clip)
        slope = np.stack([clip.uniform(0.1, 0.5), clip.uniform(0.1, 0.5)], -1).astype(np.float32)
        waves = np.sin(slope[:, :1, None] * rows[:, None] + slope[:, 1:, None] * columns)[..., None]
        still = tint(np.zeros(len(random), np.int64))[:, None, None] + STRIPES * waves
        video = np.repeat(still[:, None].astype(np.float32), length, axis=1)
        labels = np.zeros((*video.shape[:-1],), np.uint8)
        for number in range(self.options["num_shapes"]):
            self._draw_shape(draws.Draws(draws.keys(random, number)), tint, frames, (rows, columns), video, labels)
        return np.round(np.clip(video, 0.0, 1.0) * 255.0).astype(np.uint8), labels

    def _draw_shape(self, each, tint, frames, grid, video, labels):
        """Draws one shape of every clip over what is there."""
        height, width = self.settings.image_size
        clips = np.arange(len(frames))
        kind = each.integers(1, len(CLASSES))
        radius = each.uniform(SMALLEST, LARGEST) * min(height, width)
        place = np.stack([each.uniform(), each.uniform()], -1)
        angle, speed = each.uniform(0, 2 * np.pi), each.uniform(0.4, 1.0) * FASTEST
        free = np.array([height, width]) - 2 * radius[:, None]
        velocity = np.stack([np.sin(angle), np.cos(angle)], -1) * (speed * min(height, width))[:, None] / free
        path = digits.straight_paths(place, velocity, int(frames.max()) + 1)[frames, clips[:, None]]
        centre = (path * free[:, None] + radius[:, None, None]).astype(np.float32)
        dy = grid[0] - centre[..., :1]
        dx = grid[1] - centre[..., 1:]
        dy, dx = dy[..., :, None], dx[..., None, :]
        size = radius.astype(np.float32)[:, None, None, None]
        distance = np.sqrt(dy**2 + dx**2)
        inside = np.stack(
            [
                distance < size,
                np.maximum(np.abs(dy), np.abs(dx)) < 0.85 * size,
                (dy < 0.8 * size) & (2.0 * np.abs(dx) < dy + size),
                (distance < size) & (distance > 0.5 * size),
            ]
        )[kind - 1, clips]
        waves = np.sin(each.uniform(0.6, 1.2).astype(np.float32)[:, None, None, None] * (dx + dy))
        colour = tint(kind)[:, None, None, None] + STRIPES * waves[..., None]
        video[:] = np.where(inside[..., None], colour, video)
        labels[:] = np.where(inside, kind[:, None, None, None], labels)


def _tint(random):
    """A function from classes [N] to colours float32 [N, 3], those of the clips that `random` stands for."""
    shifts = np.stack([[random.uniform(-SHIFT, SHIFT) for _ in range(3)] for _ in CLASSES], 0)  # [K, 3, N]
    colours = (COLOURS[..., None] + shifts).astype(np.float32)
    return lambda kinds: colours[kinds, :, np.arange(colours.shape[-1])]
