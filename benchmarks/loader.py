"""How fast clips come in: tfvp benchmark loader [--seconds 3] [--clips 48]

Writes AVI files like KTH's (160x120, MPEG-4) into a temporary folder and prints frames per second
of each loader into training batches, beside the limits: reading the shard files in one go, and
decoding the AVI files anew in each epoch.
"""

import os
import pathlib
import tempfile
import time

import numpy as np

from tfvp import registry, video_io
from tfvp.datasets import base, kth
from tfvp.pipeline import batching

BATCH, LENGTH, FRAMES = 16, 20, 200
GENERATED = {"moving_mnist": 1, "stochastic_mnist": 1, "mmnist_long": 1, "shapes": 3}


class DecodedAnew(kth.KTH):
    """KTH without shards: every window is decoded from its file."""

    def read(self, split, clips, starts, length, stride=1):
        names = self.store.clip_names(split)
        paths = {source.name: source.path for source in self.sources()}
        videos = [video_io.read_video(paths[names[clip]], self.settings.image_size, 1, "squash") for clip in clips]
        span = length * stride
        return {"video": np.stack([video[start : start + span : stride] for video, start in zip(videos, starts)])}


def per_second(step, frames, seconds):
    """Frames per second of a function that handles `frames` at a time."""
    step()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count * frames / (time.perf_counter() - start)


def through_pipeline(dataset, seconds):
    batches = iter(batching.training_batches(dataset, batch_size=BATCH, length=LENGTH, steps_per_epoch=100, seed=1))
    return per_second(lambda: next(batches), BATCH * LENGTH, seconds)


def generated(name, size, channels):
    """A data set that draws its clips."""
    size = (size, size) if isinstance(size, int) else tuple(size)
    return registry.lookup("dataset", name)(base.Settings(image_size=size, channels=channels))


def write_films(root, clips):
    rng = np.random.default_rng(0)
    for i in range(clips):
        video = rng.integers(140, 152, (FRAMES, 120, 160, 1), dtype=np.uint8)
        for t in range(FRAMES):
            video[t, 30:110, (3 * t + 7 * i) % 130 : (3 * t + 7 * i) % 130 + 25] -= 70
        name = f"person{1 + i % 16:02d}_walking_d{1 + i // 16}_uncomp.avi"
        video_io.write_video(root / "walking" / name, video, 25)


def from_files(root, clips, seconds, rows):
    settings = base.Settings(root=str(root), image_size=(64, 64))
    dataset = kth.KTH(settings)
    start = time.perf_counter()
    dataset.prepare(progress=False)
    rows.append(("decode AVI into shards, once", clips * FRAMES / (time.perf_counter() - start)))
    shards = sorted(dataset.store.folder.glob("*.npy"))
    read = per_second(lambda: [np.fromfile(shard, np.uint8) for shard in shards], clips * FRAMES, seconds)
    rows.append(("read the shard files in one go (limit)", read))
    rng = np.random.default_rng(0)

    def windows():
        chosen = rng.integers(0, clips, BATCH), rng.integers(0, FRAMES - LENGTH, BATCH)
        dataset.read("train", *chosen, LENGTH)

    rows.append(("random windows from shards, uint8", per_second(windows, BATCH * LENGTH, seconds)))
    rows.append(("kth: shards -> batches", through_pipeline(dataset, seconds)))
    rows.append(("kth: AVI decoded anew -> batches", through_pipeline(DecodedAnew(settings), seconds)))


def from_own_video(root, clips, seconds, rows):
    """Colour films of 160x120 in MP4, read by the data set "folder" at 128x128."""
    rng = np.random.default_rng(1)
    for i in range(clips):
        video = np.repeat(rng.integers(100, 110, (FRAMES, 120, 160, 1), dtype=np.uint8), 3, axis=-1)
        for t in range(FRAMES):
            video[t, 40:80, (2 * t + 9 * i) % 120 : (2 * t + 9 * i) % 120 + 30] = (200, 60, 8 * (i % 20))
        video_io.write_video(root / f"film{i:03d}.mp4", video, 25)
    dataset = registry.lookup("dataset", "folder")(base.Settings(root=str(root), image_size=(128, 128), channels=3))
    start = time.perf_counter()
    dataset.prepare(progress=False)
    rows.append(("folder 128x128 RGB: decode MP4 into shards", clips * FRAMES / (time.perf_counter() - start)))
    rows.append(("folder 128x128 RGB: shards -> batches", through_pipeline(dataset, seconds)))


def run(options):
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_films(pathlib.Path(folder), options.clips)
        from_files(pathlib.Path(folder), options.clips, options.seconds, rows)
    with tempfile.TemporaryDirectory() as folder:
        from_own_video(pathlib.Path(folder), options.clips // 2, options.seconds, rows)
    for name, channels in GENERATED.items():
        for size in (64, 32):
            rate = through_pipeline(generated(name, size, channels), options.seconds)
            rows.append((f"{name} {size}x{size}: drawn -> batches", rate))
    print(f"batches of {BATCH} x {LENGTH} frames, of 64x64 where not said, float32, on {os.cpu_count()} cores\n")
    width = max(len(name) for name, _ in rows)
    print(f"{'loader'.ljust(width)}  frames/s\n{'-' * (width + 10)}")
    print("\n".join(f"{name.ljust(width)}  {rate:8,.0f}" for name, rate in rows))
