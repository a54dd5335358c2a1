"""Shared by data sets of driving: frames in numbered images, label maps beside them."""

import re

import numpy as np
from PIL import Image

from tfvp import video_io
from tfvp.datasets import base

LABEL_PREFIX = "color_mask_"


class LabelledFrames(base.FileDataset):
    """Clips of numbered images, with or without label maps.

    A label map is a PNG whose values (or palette indices) are class numbers, beside its image
    and named color_mask_<image name>. Frames of a clip have consecutive numbers; a gap, or a
    missing label map, begins another clip.

    Args:
        settings: `base.Settings`.
        labels: disk = also read label maps; none.
    """

    provides = ("video", "labels")
    number = re.compile(r"(\d+)\D*$")

    def arrays(self):
        labels = {"labels": (np.uint8, self.settings.image_size)} if self.options["labels"] == "disk" else {}
        return {**super().arrays(), **labels}

    def element_spec(self, length):
        import tensorflow as tf

        spec = super().element_spec(length)
        if self.options["labels"] == "disk":
            spec["labels"] = tf.TensorSpec([length, *self.settings.image_size], tf.uint8)
        return spec

    def frames_in(self, source):
        if not source.path.is_dir():
            return super().frames_in(source)
        return sum(not self.is_mask(name) for name in video_io.list_images(source.path))

    def is_mask(self, name):
        """Whether an image is a label map, by its name."""
        return name.startswith(LABEL_PREFIX)

    def image(self, path):
        """A frame as uint8 [h, w, c], before it is resized; an author may crop here."""
        return video_io.read_image(path)

    def mask_of(self, path):
        """The label file of an image."""
        return path.with_name(f"{LABEL_PREFIX}{path.stem}.png")

    def label_map(self, path):
        """Class numbers uint8 [h, w] of a label file, before they are resized."""
        return video_io.read_classes(path)

    def clips_of(self, name, paths):
        """Yields (clip name, {"video", "labels"}), a clip for each run of consecutive frames."""
        labelled = self.options["labels"] == "disk"
        run, last = [], None
        for path in sorted(paths, key=lambda p: video_io.natural_key(p.name)):
            number = int(self.number.search(path.stem)[1])
            mask = self.mask_of(path)
            usable = not labelled or mask.is_file()
            if run and (not usable or number != last + 1):
                yield run[0][0], self._stacked(run)
                run = []
            if usable:
                run.append((f"{name}#{number}", path, mask if labelled else None))
                last = number
        if run:
            yield run[0][0], self._stacked(run)

    def clip_sources(self, split, clips):
        return [name.rsplit("#", 1)[0] for name in self.clip_names(split, clips)]

    def windows_every(self, split, step, length, stride):
        """Windows that start every `step` frames of each clip, clip after clip: (clips, starts), int64 [N] each."""
        clips = self.usable_clips(split, length, stride)
        counts = (self.clip_lengths(split)[clips] - ((length - 1) * stride + 1)) // step + 1
        return np.repeat(clips, counts), np.concatenate([np.arange(n, dtype=np.int64) * step for n in counts])

    def _stacked(self, run):
        video = self.preprocessing.convert(self.image(path) for _, path, _ in run)
        if run[0][2] is None:
            return {"video": video}
        labels = [nearest(self.label_map(mask), self.settings.image_size) for _, _, mask in run]
        return {"video": video, "labels": np.stack(labels)}


def nearest(labels, size):
    """Class numbers [h, w] at `size`, (height, width), by nearest pixel."""
    return np.asarray(Image.fromarray(labels).resize(size[::-1], Image.NEAREST))
