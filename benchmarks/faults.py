"""Kills commands at random moments and counts whether the next try ends as if nothing had happened.

    tfvp benchmark faults --kills 20

Training, preparing a data set, evaluation and export are killed (SIGKILL) in turn, each at a
moment drawn uniformly from the time that it takes, training at a step drawn uniformly from all of
them, and started again with the same arguments. "Equal" means: the weights and the metrics of
every epoch to 1e-5, the frames of every prepared clip and the numbers of an evaluation exactly,
the predictions of an export to 1e-6. Backups are written every 60 ms here.
"""

import contextlib
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

import tfvp

ROOT = pathlib.Path(tfvp.__file__).resolve().parent.parent  # so that `python -m tfvp` finds it
FILMS, FRAMES = 24, 120
STEPS = 36  # of the training below
# Commands whose undisturbed outcome is needed, with `--only`.
NEEDS = {
    "prepare": ("prepare",),
    "training": ("prepare", "training"),
    "evaluation": ("prepare", "training", "evaluation"),
    "export": ("prepare", "training", "export"),
}
CONFIG = """
model: {name: convlstm_openstl, hidden: [6], kernel: 3, patch: 4, context: 4, sampling_rate: 0.05}
data: {name: folder, root: %s, image_size: 32}
train: {epochs: 3, steps_per_epoch: 12, batch_size: 4, seq_len: 8, validation_examples: 2, gif_examples: 1,
        ema_decay: 0.5, learning_rate: 0.01, log_steps: 1, loggers: [jsonl], backup_minutes: 0.001}
eval: {open_loop_ctx: 4, eval_seq_len: 8, num_examples: 2, batch_size: 2, metrics: [mse, psnr, ssim, lpips]}
"""


class Workplace:
    """A folder with films, a configuration, and runs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.films, self.config = self.folder / "films", self.folder / "tiny.yml"
        self.config.write_text(CONFIG % self.films, encoding="utf-8")
        self._write_films()

    def _write_films(self):
        from tfvp import video_io

        rng = np.random.default_rng(0)
        for n in range(FILMS):
            video = rng.integers(0, 40, (FRAMES, 48, 64, 1), dtype=np.uint8)
            for t in range(FRAMES):
                video[t, 10:30, (2 * t + n) % 44 : (2 * t + n) % 44 + 20] = 200
            video_io.write_video(self.films / f"{n:02d}.mp4", np.repeat(video, 3, axis=-1), 25)

    def command(self, name, logdir):
        """The arguments of a command that works on the runs in `logdir`."""
        arguments = {
            "training": ["train", "--logdir", logdir, "--config", self.config],
            "prepare": ["data", "--config", self.config, "--out", logdir / "sheet.png"],
            "evaluation": ["evaluate", "--logdir", logdir / "tiny"],
            "export": ["export", "--logdir", logdir / "tiny"],
        }[name]
        return [sys.executable, "-m", "tfvp", *map(str, arguments)]

    def start(self, name, logdir):
        log = open(self.folder / "log", "ab")
        return subprocess.Popen(self.command(name, logdir), cwd=ROOT, stdout=log, stderr=log)


def outcome(name, place, logdir):
    """What a command leaves: {key: array}, to be compared."""
    run = logdir / "tiny"
    if name == "training":
        import h5py

        found = {}
        with h5py.File(run / "model" / "last.weights.h5") as file:
            file.visititems(lambda key, item: found.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            values.pop("frames_per_second", None)
            found.update({f"epoch {values['epoch']} {key}": np.array(value) for key, value in values.items()})
        return found
    if name == "prepare":
        from tfvp import config
        from tfvp.datasets.build import build_dataset

        dataset = build_dataset(config.load(place.config))
        dataset.prepare(progress=False)
        assert dataset.check() > 0
        return {
            f"{split} {clip}": dataset.read(split, np.array([clip]), np.array([0]), int(length))["video"]
            for split in ("train", "validation", "test")
            for clip, length in enumerate(dataset.clip_lengths(split))
        }
    if name == "evaluation":
        with np.load(run / "eval" / "default" / "per_clip.npz") as archive:
            return {key: archive[key] for key in archive.files}
    import tensorflow as tf

    newest = max((run / "export").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    loaded = tf.saved_model.load(str(newest)).signatures["serving_default"]
    frames = tf.constant(np.random.default_rng(0).uniform(size=(1, 4, 32, 32, 1)), tf.float32)
    return {key: value.numpy() for key, value in loaded(context=frames, horizon=tf.constant([5])).items()}


def same(first, second, tolerance):
    """Whether two outcomes have the same keys and values."""
    return first.keys() == second.keys() and all(
        np.shape(first[key]) == np.shape(second[key])
        and (
            np.array_equal(first[key], second[key])  # names and hashes of clips
            or np.asarray(first[key]).dtype.kind == "f"
            and np.allclose(first[key], second[key], rtol=tolerance, atol=tolerance, equal_nan=True)
        )
        for key in first
    )


def prepare_anew(name, place, good, folder):
    """A folder of runs in which the command still has its work to do."""
    logdir = folder / "logs"
    shutil.rmtree(logdir, ignore_errors=True)
    if name == "prepare":
        logdir.mkdir()
        shutil.rmtree(place.films / ".tfvp", ignore_errors=True)
    elif name != "training":
        shutil.copytree(good, logdir)
        for left in ("eval", "export"):
            shutil.rmtree(logdir / "tiny" / left, ignore_errors=True)
    return logdir


def _wait_for_a_step(run, step, process):
    """Waits until a training process has made a step; returns it."""
    while process.poll() is None and not any(f'"step": {step},' in line for line in _lines(run / "steps.jsonl")):
        time.sleep(0.002)
    return step


def _steps_lost(run):
    """Steps of a killed run that its newest backup does not have."""
    done = [json.loads(line)["step"] for line in _lines(run / "steps.jsonl") if line.endswith("}")]
    saved = [int(path.stem.split("-")[1]) for path in (run / "backup").glob("step-*.npz")]
    return max(done, default=0) - max(saved, default=0)


def _lines(path):
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def run(options):
    pick = random.Random(options.seed)
    tolerances = {"training": 1e-5, "prepare": 0.0, "evaluation": 0.0, "export": 1e-6}
    counts, lost = {name: [0, 0] for name in tolerances}, []
    with tempfile.TemporaryDirectory() as folder:
        place, expected, seconds = Workplace(folder), {}, {}
        good = place.folder / "good"
        for name in NEEDS.get(options.only, tuple(tolerances)):
            good.mkdir(exist_ok=True)
            began = time.perf_counter()
            if place.start(name, good).wait():
                raise SystemExit((place.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:])
            seconds[name] = time.perf_counter() - began
            expected[name] = outcome(name, place, good)
        print(", ".join(f"{name} takes {value:.1f} s" for name, value in seconds.items()), flush=True)
        for number in range(options.kills):
            name = options.only or list(tolerances)[number % len(tolerances)]
            logdir = prepare_anew(name, place, good, place.folder)
            process = place.start(name, logdir)
            if name == "training":
                moment = f"at step {_wait_for_a_step(logdir / 'tiny', pick.randrange(1, STEPS), process)}"
            else:
                seconds_before = pick.uniform(0.0, seconds[name])
                moment = f"after {seconds_before:.2f} s"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds_before)
            process.kill()
            process.wait()
            if name == "training":
                lost.append(_steps_lost(logdir / "tiny"))
            status = place.start(name, logdir).wait()
            equal = status == 0 and same(expected[name], outcome(name, place, logdir), tolerances[name])
            counts[name][0] += 1
            counts[name][1] += equal
            verdict = "equal" if equal else f"DIFFERENT (exit status {status})"
            print(f"{name} killed {moment} and started again: {verdict}", flush=True)
    for name, (kills, equal) in counts.items():
        if kills:
            print(f"{name}: {equal} of {kills} ended equal")
    if lost:
        print(
            f"training steps lost by a kill: {max(lost)} at most, {sum(lost) / len(lost):.1f} on average; each: {lost}"
        )
    if any(kills != equal for kills, equal in counts.values()):
        raise SystemExit(1)
