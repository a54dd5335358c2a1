"""BAIR robot pushing (Ebert, Finn, Lee and Levine 2017, arXiv 1710.05268), small, with no actions used."""

import re

import numpy as np

from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import listing, tfrecords
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

VALIDATION_EVERY = 20  # one training clip in as many is held out
SIDE = 64
_CAMERA = "image_aux1"


@register("dataset", "bair")
class BAIR(base.FileDataset):
    """A robot arm pushes objects around on a table; 30 frames of 64x64 in colour.

    Read as published: softmotion30_44k/{train,test}/*.tfrecords, whose frames are raw RGB bytes
    under "<i>/image_aux1/encoded", taken as they are; or the tree of PNGs that SVG's script
    writes, processed_data/{train,test}/<record file>/<k>/<i>.png (that script stretches the
    contrast of each frame; ours does not). 256 test clips are published; the first of every
    twenty training clips is the validation split.

    Args:
        settings: `base.Settings`; image sizes other than 64 are resized by area.
    """

    info = base.DatasetInfo(
        description="A robot arm pushes objects around on a table, with random motions.",
        homepage="https://sites.google.com/berkeley.edu/robotic-interaction-datasets",
        licence="see the homepage",
        fps=None,
        download=(
            "unpack http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar"
            " and name the folder with softmotion30_44k as data.root"
        ),
        layout="softmotion30_44k/{train,test}/*.tfrecords, or processed_data/{train,test}/<file>/<k>/<i>.png",
        context=2,
        horizon=28,
        decoded=(base.Decoded(30 * (43_264 + 256), (64, 64, 3)),),
    )

    def sources(self):
        folders = {split: listing.find_folder(self.root, split) for split in ("train", "test")}
        sources = []
        for split, folder in folders.items():
            if folder is None:
                continue
            files = listing.videos(folder, (".tfrecords", ".tfrecord"), images=False)
            if files:
                # A file of records holds training and validation clips, so it is listed for both.
                parts = ("train", "validation") if split == "train" else (split,)
                for path in files:
                    name = path.relative_to(self.root).as_posix()
                    sources += [Source(f"{name}:{part}", part, path, member=part) for part in parts]
            else:
                sources += self._trees(split, folder)
        return sources

    def _trees(self, split, folder):
        clips = [path for path in listing.videos(folder, (), images=True) if path.is_dir()]
        names = [path.relative_to(self.root).as_posix() for path in clips]
        parts = [split if split == "test" or i % VALIDATION_EVERY else "validation" for i in range(len(clips))]
        return [Source(name, part, path) for name, part, path in zip(names, parts, clips)]

    def frames_in(self, source):
        if not source.member:
            return super().frames_in(source)
        held_out = 0 if source.split == "test" else VALIDATION_EVERY
        return tfrecords.frames_in(source.path, lambda example: len(_numbers(example)), held_out, source.split)

    def decode(self, source):
        if not source.member:
            yield from super().decode(source)
            return
        for number, example in enumerate(tfrecords.examples(source.path)):
            held_out = "validation" if number % VALIDATION_EVERY == 0 else "train"
            if source.split == "test" or source.split == held_out:
                frames = _raw_frames(example, source.path)
                yield f"{source.name.rsplit(':', 1)[0]}#{number}", {"video": self.preprocessing.convert(frames)}


def _numbers(example):
    """The numbers of an example's frames, in order."""
    pattern = re.compile(rf"(\d+)/{_CAMERA}/encoded")
    return sorted(int(match[1]) for match in map(pattern.fullmatch, example) if match)


def _raw_frames(example, path):
    """List of uint8 [64, 64, 3]: raw bytes, not JPEG."""
    numbers = _numbers(example)
    if not numbers:
        raise UserError(
            f"{path} has no frames under '<i>/{_CAMERA}/encoded'; its examples have {', '.join(sorted(example)[:4])}"
        )
    frames = []
    for number in numbers:
        raw = example[f"{number}/{_CAMERA}/encoded"].bytes_list.value[0]
        if len(raw) != SIDE * SIDE * 3:
            raise UserError(
                f"{path} has a frame of {len(raw)} bytes, not {SIDE} x {SIDE} x 3 raw ones; download it again"
            )
        frames.append(np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3))
    return frames
