"""What the kinds of data.storage cost: tfvp benchmark storage [--videos PATH ...] [--sizes 64 128]

Prints a Markdown table: bytes per frame, frames per second of one thread that reads windows of 20 frames
from a file in memory, the same for writing, and the PSNR of what comes back. Kinds that tfvp does not offer are
measured beside them, where their packages are installed (zstandard, numcodecs, imagecodecs). Times are of the
processor, so that other work on the machine disturbs them little.
"""

import functools
import importlib
import io
import pathlib
import tempfile
import time

import cv2
import numpy as np
from PIL import Image

from tfvp import registry, video_io
from tfvp.datasets import base
from tfvp.pipeline import columns, frame_codecs

WINDOW = 20


class Other(frame_codecs.Codec):
    """A kind that tfvp does not offer.

    Args:
        shape: of a frame, [H, W, C].
        compress, expand: bytes of a frame -> bytes, and back.
        turn, turn_back: what is done to a frame before, and after.
    """

    suffix = "other"

    def __init__(self, shape, compress, expand, turn=np.asarray, turn_back=np.asarray):
        super().__init__(shape)
        self.compress = compress
        self.expand = expand
        self.turn = turn
        self.turn_back = turn_back

    def encode(self, frame):
        return bytes(self.compress(np.ascontiguousarray(self.turn(frame))))

    def decode(self, data):
        return self.turn_back(np.frombuffer(self.expand(data), np.uint8).reshape(self.shape))


class GreyWebP(frame_codecs.WebP):
    """WebP of grey frames, with the effort that they need."""

    def encode(self, frame):
        file = io.BytesIO()
        Image.fromarray(frame[..., 0]).convert("RGB").save(file, "WEBP", lossless=True, method=1, quality=0)
        return file.getvalue()

    def decode(self, data):
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)[..., :1]


def kinds(shape):
    """{name: a codec, or None} of all kinds that can be measured here."""
    result = {kind: frame_codecs.codec_of(kind, "video", np.uint8, shape) for kind in frame_codecs.KINDS}
    result.update({"PNG": frame_codecs.Png(shape)} if shape[2] == 3 else {"WebP": GreyWebP(shape)})
    if zstandard := _module("zstandard"):
        expand = zstandard.ZstdDecompressor().decompress
        compress = zstandard.ZstdCompressor(level=3).compress
        result["zstd"] = Other(shape, compress, expand)
        result["zstd of differences of rows"] = Other(shape, compress, expand, _differences, _sums)
    if numcodecs := _module("numcodecs"):
        numcodecs.blosc.use_threads = False
        blosc = numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)
        result["Blosc, zstd on shuffled bits"] = Other(shape, blosc.encode, blosc.decode)
    if imagecodecs := _module("imagecodecs"):
        encode = lambda frame: imagecodecs.jpegls_encode(frame.squeeze())  # noqa: E731
        result["JPEG-LS"] = Other(shape, encode, lambda data: imagecodecs.jpegls_decode(data).tobytes())
    return result


def _module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _differences(frame):
    result = frame.copy()
    result[1:] -= frame[:-1]
    return result


def _sums(frame):
    return np.add.accumulate(frame, axis=0, dtype=np.uint8)


def rate(step, count, seconds):
    """Things per second of processor time, of a function that does `count` at once."""
    step()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        step()
        best = min(best, time.process_time() - start)
    return count / max(best, 1e-9)


def measured(video, codec, seconds):
    """{"bytes", "read", "written", "psnr"} of a video, uint8 [T, H, W, C]."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def write(name):
            column = columns.writer(folder / name, "video", video.dtype, video.shape[1:], codec)
            column.append(video)
            return column

        def write_once():
            write("again").abandon()

        column = write("shard-00000")
        listed = column.finish(len(video))
        array = columns.reader(folder, "video", listed, codec)
        starts = np.random.default_rng(0).integers(0, len(video) - WINDOW + 1, 8)
        window = np.empty((WINDOW, *video.shape[1:]), np.uint8)

        def read():
            for start in starts:
                window[:] = array[start : start + WINDOW]

        error = np.square(np.asarray(array[: len(video)], np.float64) - video).mean()
        return {
            "bytes": sum(file["bytes"] for file in listed.values()) / len(video),
            "read": rate(read, WINDOW * len(starts), seconds),
            "written": rate(write_once, len(video), seconds),
            "psnr": 10 * np.log10(255**2 / error) if error else float("inf"),
        }


def drawn(size, frames):
    """Frames of the data set "shapes", uint8 [frames, size, size, 3]."""
    dataset = registry.lookup("dataset", "shapes")(base.Settings(image_size=(size, size), channels=3))
    length = min(frames, int(dataset.clip_lengths("test")[0]))
    return dataset.read("test", np.array([0]), np.array([0]), length)["video"][0]


def videos(paths, sizes, channels, frames):
    """Yields (name, uint8 [T, H, W, C])."""
    for size in sizes:
        for path in paths:
            video = video_io.read_video(path, (size, size), channels, "crop")[:frames]
            yield f"{pathlib.Path(path).stem}, {size} {'grey' if channels == 1 else 'RGB'}", video
        if not paths:
            yield f"shapes, {size} RGB", drawn(size, frames)


def run(options):
    cv2.setNumThreads(1)
    header = ["frames", "kind", "bytes a frame", "of raw", "frames/s read", "frames/s written", "PSNR"]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|", flush=True)
    for name, video in videos(options.videos, options.sizes, options.channels, options.frames):
        row = functools.partial(measured, video, seconds=options.seconds)
        for kind, codec in kinds(video.shape[1:]).items():
            numbers = row(codec)
            psnr = "equal" if np.isinf(numbers["psnr"]) else f"{numbers['psnr']:.1f} dB"
            cells = [f"{numbers['bytes']:,.0f}", f"{numbers['bytes'] / video[0].nbytes:.2f}"]
            cells += [f"{numbers['read']:,.0f}", f"{numbers['written']:,.0f}", psnr]
            print(f"| {name} | {kind} | " + " | ".join(cells) + " |", flush=True)
