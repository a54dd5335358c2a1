"""How a long film is prepared: tfvp benchmark film [--minutes 120] [--size 128]

Writes a 720p film at 5 frames a second from FFmpeg's test source (one minute of it, whose packets are repeated) into a
temporary folder, and prepares it as the data set `folder` in a process of its own: frames per second and the memory
that it takes at its highest, beside one thread that only decodes. Then the same is killed half-way and repeated.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import av

RATE, SIZE = 5, "1280x720"
GROUP = 250  # frames from a key frame to the next

PREPARE = """
import json, resource, sys, time
from tfvp import registry
from tfvp.datasets import base
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
settings = base.Settings(sys.argv[1], image_size=(int(sys.argv[2]), int(sys.argv[2])), channels=3)
dataset = registry.lookup("dataset", "folder")(settings)
start = time.perf_counter()
dataset.prepare(progress=False)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shards = dataset.store.manifest["shards"]
frames = int(dataset.clip_lengths("train")[0])
print(json.dumps({"seconds": seconds, "frames": frames, "shards": len(shards), "rise": (peak - before) / 1024}))
"""


def write_film(path, minutes):
    """A film of so many minutes, whose minutes are the same."""
    with (
        av.open(f"testsrc2=size={SIZE}:rate={RATE}:duration=60", format="lavfi") as source,
        av.open(str(path), "w") as film,
    ):
        stream = film.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "28", "g": str(GROUP)})
        stream.width, stream.height = map(int, SIZE.split("x"))
        stream.pix_fmt = "yuv420p"
        packets = []
        for frame in source.decode(video=0):
            frame = frame.reformat(format="yuv420p")
            frame.pict_type = 0
            packets += stream.encode(frame)
        packets += stream.encode()
        minute = round(60 / packets[0].time_base)
        for i in range(minutes):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.duration = packet.pts + i * minute, packet.dts + i * minute, packet.duration
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                film.mux(copy)


def decode_only(path, frames=1500):
    """Frames per second of FFmpeg's decoder in one thread, without anything done to them."""
    with av.open(str(path)) as film:
        film.streams.video[0].codec_context.thread_count = 1
        start = time.perf_counter()
        for count, _ in enumerate(film.decode(video=0), start=1):
            if count == frames:
                break
        return count / (time.perf_counter() - start)


def started(root, size):
    command = [sys.executable, "-c", PREPARE, str(root), str(size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


def prepared(root, size):
    """What `PREPARE` prints."""
    output, _ = started(root, size).communicate()
    return json.loads(output.splitlines()[-1])


def run(options):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for split, minutes in (("train", options.minutes), ("validation", 1), ("test", 1)):
            (root / split).mkdir()
            write_film(root / split / "film.mp4", minutes)
        film = root / "train" / "film.mp4"
        print(
            f"{options.minutes} minutes of {SIZE} at {RATE} frames/s, {film.stat().st_size / 2**20:.0f} MB, to"
            f" {options.size}x{options.size} in colour"
        )
        print(f"decoding alone, one thread   {decode_only(film):8,.0f} frames/s")
        result = prepared(root, options.size)
        print(
            f"prepared, {os.cpu_count()} cores           {result['frames'] / result['seconds']:8,.0f} frames/s,"
            f" {result['seconds']:.0f} s, {result['shards']} shards, memory rises by {result['rise']:.0f} MB"
        )
        for path in (root / ".tfvp").rglob("*"):
            if path.is_file():
                path.unlink()
        killed = started(root, options.size)
        time.sleep(result["seconds"] / 2 + 5)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        kept = sum(json.loads(path.read_text())["frames"] for path in (root / ".tfvp").rglob("shard-*.json"))
        again = prepared(root, options.size)
        print(
            f"killed half-way: {kept:,} of {result['frames'] + 2 * 60 * RATE:,} frames were kept; the rest took"
            f" {again['seconds']:.0f} s"
        )
