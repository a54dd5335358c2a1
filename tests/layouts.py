"""Tiny raw trees in each data set's published layout, and where reference files may lie."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
import tensorflow as tf
from PIL import Image

from tests import golden
from tfvp import video_io


def shared_data(name):
    """A folder of real clips for tests; skips the test where there is none."""
    return golden.data_folder() / name


def marked_clip(number, frames, height=24, width=32):
    """uint8 [frames, height, width, 1] that shows which clip and which frame it is (see `marks`)."""
    clip = np.zeros((frames, height, width, 1), np.uint8)
    clip[:, : height // 2] = 8 + number * 8
    clip[:, height // 2 :] = (8 + np.arange(frames) * 4)[:, None, None, None]
    return clip


def marks(video):
    """(clip number, frame number), integers [...], of frames [..., H, W, C] in [0, 255] that `marked_clip` made."""
    video = np.asarray(video, np.float64)
    quarter = video.shape[-3] // 4
    top, bottom = video[..., :quarter, :, 0].mean((-1, -2)), video[..., -quarter:, :, 0].mean((-1, -2))
    return np.rint((top - 8) / 8).astype(int), np.rint((bottom - 8) / 4).astype(int)


def write_kth(root, layout, persons=(1, 2, 16, 17, 18, 20, 21, 25), action="boxing", frames=30, codec="ffv1"):
    """KTH as "zips", "folders" or "readme"; clip number = person, frames + person frames each.

    Returns:
        {file name: person}.
    """
    names = {f"person{person:02d}_{action}_d1_uncomp.avi": person for person in persons}
    for name, person in names.items():
        folder = {
            "zips": root / "unpacked",
            "folders": root / action,
            "readme": root / "KTH" / ("test" if person > 20 else "train"),
        }[layout]
        video_io.write_video(folder / name, marked_clip(person, frames + person), 25, codec)
    if layout == "zips":
        with zipfile.ZipFile(root / f"{action}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(root / "unpacked" / name, name)
                (root / "unpacked" / name).unlink()
        (root / "unpacked").rmdir()
    return names


def write_kth_segments(root, segments):
    """00sequences.txt as published; `segments` is {video: "1-10, 15-30" or "*missing*"}."""
    text = "\nThis database contains sequences of six classes of actions\n\nTraining:   person11, 12\n\n\n"
    for name, ranges in segments.items():
        text += f"{name}\t\t*missing*\n" if ranges == "*missing*" else f"{name}\t\tframes\t{ranges}\n"
    (root / "00sequences.txt").write_text(text)


def write_mmnist_long(root, suffix=".avi", train=4, test=2, name="Moving Mnist"):
    """The published folder of long Moving MNIST, with clips of 30 and 50 frames."""
    for folder, count, frames, first in (("train-seq100", train, 30, 0), ("test-seq1000", test, 50, 20)):
        for i in range(count):
            codec = {".avi": "mpeg4"}.get(suffix)
            clip = marked_clip(first + i, frames, 64, 64)
            video_io.write_video(root / name / folder / f"{i + 1}{suffix}", clip, 15, codec)


def write_train_test(root, name="GQN-Mazes", suffix=".mp4", train=6, test=2, frames=30):
    """Folders train and test of colour clips; test clips have numbers from 20."""
    for split, count, first in (("train", train, 0), ("test", test, 20)):
        for i in range(count):
            clip = np.repeat(marked_clip(first + i, frames, 64, 64), 3, axis=-1)
            video_io.write_video(root / name / split / f"{i}{suffix}", clip, 15, {".avi": "mpeg4"}.get(suffix))


def write_tfds(root, name, train=24, test=3, frames=30):
    """Records of tensorflow-datasets: examples with a PNG per frame under "video", in two files a split."""
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for part in range(2):
            with tf.io.TFRecordWriter(str(folder / f"{name}-{split}.tfrecord-{part:05d}-of-00002")) as writer:
                for i in range(part, count, 2):
                    clip = np.repeat(marked_clip(first + i, frames, 16, 16), 3, axis=-1)
                    images = [tf.io.encode_png(frame).numpy() for frame in clip]
                    video = tf.train.Feature(bytes_list=tf.train.BytesList(value=images))
                    example = tf.train.Example(features=tf.train.Features(feature={"video": video}))
                    writer.write(example.SerializeToString())


def write_bair(root, layout, train=24, test=3, frames=30):
    """BAIR as "records" (raw bytes, twelve clips a file) or "pngs" (the tree of SVG's script)."""
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for begin in range(0, count, 12):
            name = f"traj_{begin}_to_{begin + 11}"
            clips = [
                np.repeat(marked_clip(first + i, frames, 64, 64), 3, axis=-1)
                for i in range(begin, min(begin + 12, count))
            ]
            if layout == "pngs":
                for k, clip in enumerate(clips, start=1):
                    for t, frame in enumerate(clip):
                        video_io.write_video(root / "processed_data" / split / name / str(k) / f"{t}.png", frame[None])
                continue
            path = root / "softmotion30_44k" / split / f"{name}.tfrecords"
            path.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(str(path)) as writer:
                for clip in clips:
                    raw = {f"{t}/image_aux1/encoded": frame.tobytes() for t, frame in enumerate(clip)}
                    raw |= {f"{t}/image_main/encoded": b"other" for t in range(frames)}
                    feature = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in raw.items()}
                    writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def write_taxibj(root, train=60, test=3):
    """One .npz of TaxiBJ: every value tells its clip and frame."""
    root.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, count, first in (("train", train, 0), ("test", test, train)):
        value = (np.arange(count)[:, None] + first) / 100.0 + np.arange(8) / 1000.0 - 0.9
        whole = np.broadcast_to(value[:, :, None, None, None], (count, 8, 2, 32, 32)).astype(np.float32)
        arrays[f"X_{split}"], arrays[f"Y_{split}"] = whole[:, :4], whole[:, 4:]
    np.savez(root / "dataset.npz", **arrays)


def write_human36m(root, train=4, test=2):
    """Lists and JPEGs of Human3.6M as OpenSTL lays them out: two clips a video."""
    lines = {"train": [], "test": []}
    for split, count, subject in (("train", train, "S1"), ("test", test, "S9")):
        for i in range(count):
            prefix = f"images/{subject}_{('Walking', 'Sitting', 'Greeting', 'Eating')[i % 4]}.{i:08d}_"
            for first in (1, 41):
                lines[split].append(f"{prefix},{first}")
            clip = np.repeat(marked_clip(i + (20 if split == "test" else 0), 20, 24, 24), 3, axis=-1)
            for number in range(1, 100, 5):
                path = root / "human" / f"{prefix}{number:06d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(clip[(number - 1) // 5]).save(path, quality=95)
    for split, text in lines.items():
        (root / "human" / f"{split}.txt").write_text("\n".join(text) + "\n")


def write_sevir(root, days=("2018-03-01", "2018-07-02", "2019-02-01", "2019-08-01"), frames=49):
    """CATALOG.csv and an HDF5 file of two events a day."""
    import h5py

    rows = ["id,file_name,file_index,img_type,time_utc"]
    for d, day in enumerate(days):
        name = f"vil/{day[:4]}/SEVIR_VIL_STORMEVENTS_{day}.h5"
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        events = np.stack([np.moveaxis(marked_clip(2 * d + e, frames, 48, 48)[..., 0], 0, -1) for e in range(2)])
        with h5py.File(path, "w") as file:
            file["vil"] = events
        rows += [f"S{d}{e},{name},{e},vil,{day} 12:00:00" for e in range(2)]
        rows.append(f"S{d}0,vis/other.h5,0,vis,{day} 12:00:00")
    (root / "CATALOG.csv").write_text("\n".join(rows) + "\n")


def write_kitti(root, recordings=None, frames=20, gap=9):
    """Recordings of KITTI with label maps; frame `gap` is missing, so each has two clips."""
    recordings = recordings or (
        "2011_09_26_drive_0001_sync",
        "2011_09_28_drive_0001_sync",
        "2011_09_26_drive_0005_sync",
        "2011_09_26_drive_0104_sync",
        "2011_09_28_drive_0100_sync",
        "2011_09_29_drive_0108_sync",
    )
    for i, recording in enumerate(recordings):
        for camera in ("image_02", "image_03"):
            folder = root / recording[:10] / recording / camera / "data"
            folder.mkdir(parents=True)
            clip = np.repeat(marked_clip(i, frames, 48, 156), 3, axis=-1)
            for t in range(frames):
                if t != gap:
                    Image.fromarray(clip[t]).save(folder / f"{t:010d}.png")
                    Image.fromarray(np.full((48, 156), i, np.uint8)).save(folder / f"color_mask_{t:010d}.png")


def write_cityscapes(root, frames=30):
    """Two training cities and a validation one; the second has two snippets under one number."""
    for i, (split, city, starts) in enumerate(
        (("train", "aachen", (0,)), ("train", "hamburg", (0, 40)), ("val", "lindau", (5,)))
    ):
        folder = root / "leftImg8bit_sequence" / split / city
        folder.mkdir(parents=True)
        for s, start in enumerate(starts):
            clip = np.repeat(marked_clip(i + 10 * s, frames, 32, 64), 3, axis=-1)
            for t in range(frames):
                name = f"{city}_000000_{start + t:06d}_leftImg8bit"
                Image.fromarray(clip[t]).save(folder / f"{name}.png")
                Image.fromarray(np.full((32, 64), i, np.uint8)).save(folder / f"color_mask_{name}.png")


def write_seq(path, clip, extra=8):
    """A StreamPix sequence of JPEGs as Caltech publishes them."""
    header = bytearray(1024)
    struct.pack_into("<I", header, 0, 0xFEED)
    for place, value in ((548, clip.shape[2]), (552, clip.shape[1]), (564, 102), (572, len(clip))):
        struct.pack_into("<I", header, place, value)
    content = bytes(header)
    for frame in clip:
        buffer = io.BytesIO()
        Image.fromarray(np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame).save(
            buffer, "JPEG", quality=95
        )
        content += struct.pack("<I", len(buffer.getvalue()) + 4) + buffer.getvalue() + bytes(extra)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_kitti_caltech(root):
    """KITTI for training and validation, three .seq files and a folder of frames of Caltech."""
    write_kitti(
        root / "kitti", ("2011_09_26_drive_0001_sync", "2011_09_26_drive_0005_sync", "2011_09_26_drive_0104_sync")
    )
    write_seq(root / "caltech" / "set06" / "V000.seq", marked_clip(20, 36, 48, 64))
    write_seq(root / "caltech" / "set06" / "V001.seq", marked_clip(21, 36, 48, 64), extra=16)
    for t, frame in enumerate(marked_clip(22, 36, 48, 64)):
        video_io.write_video(root / "caltech" / "set07" / "V000" / f"I{t:05d}.png", frame[None])


def write_cifar(root, train=40, test=10):
    """CIFAR-10 in its binary form; picture n is grey 3 n (training) or 3 n + 1 (test)."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, values in (("data_batch_1", 3 * np.arange(train)), ("test_batch", 3 * np.arange(test) + 1)):
        records = np.repeat(values.astype(np.uint8)[:, None], 3073, axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_folder(root, names, frames=12):
    """A folder of videos of different kinds and sizes; clip number = place in `names`."""
    for i, name in enumerate(names):
        path, clip = root / name, marked_clip(i, frames + i, 24 + 8 * (i % 2), 32)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == "":
            path.mkdir()
            for t, frame in enumerate(clip):
                video_io.write_video(path / f"frame{t}.png", frame[None])
        elif path.suffix == ".npz":
            np.savez(path, video=clip)
        else:
            video_io.write_video(path, clip, 10, {".avi": "mjpeg"}.get(path.suffix))


def write_mnist(root, kind="idx", train=40, test=20):
    """MNIST with few digits: "idx", "gz" or "npz". Image n is filled with 50 + n (training) or 200 + n (test)."""
    values = {"train": np.arange(50, 50 + train), "t10k": np.arange(200, 200 + test)}
    arrays = {key: np.repeat(v.astype(np.uint8), 784).reshape(-1, 28, 28) for key, v in values.items()}
    root.mkdir(parents=True, exist_ok=True)
    if kind == "npz":
        labels = {f"y_{k}": np.zeros(n, np.uint8) for k, n in (("train", train), ("test", test))}
        np.savez(root / "mnist.npz", x_train=arrays["train"], x_test=arrays["t10k"], **labels)
        return
    for key, array in arrays.items():
        content = struct.pack(">IIII", 2051, *array.shape) + array.tobytes()
        if kind == "gz":
            (root / f"{key}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
        else:
            (root / f"{key}-images-idx3-ubyte").write_bytes(content)


def write_mnist_test_seq(root, clips=6, frames=20):
    """mnist_test_seq.npy: uint8 [T, N, 64, 64]."""
    root.mkdir(parents=True, exist_ok=True)
    array = np.stack([marked_clip(i, frames, 64, 64)[..., 0] for i in range(clips)], axis=1)
    np.save(root / "mnist_test_seq.npy", array)


def truncated(content, fraction):
    """The first part of a file's bytes."""
    return content[: int(len(content) * fraction)]


def video_bytes(clip, suffix, tmp_path, codec=None):
    """A video file's bytes."""
    path = tmp_path / f"bytes{suffix}"
    video_io.write_video(path, clip, 25, codec)
    return io.BytesIO(path.read_bytes()).getvalue()


def write_pose(root, frames=20, gap=9):
    """Three videos with DensePose's IUV images; the part number of clip n is n; frame `gap` is missing."""
    listed = {"train": {"V00001": ["C00001", "C00002"], "V00002": ["C00001"]}, "test": {"V00003": ["C00001"]}}
    (root / "split.json").write_text(json.dumps(listed))
    clips = [(video, clip) for videos in listed.values() for video, names in videos.items() for clip in names]
    for i, (video, clip) in enumerate(clips):
        folder = root / video / clip
        folder.mkdir(parents=True)
        for t, frame in enumerate(np.repeat(marked_clip(i, frames, 48, 48), 3, axis=-1)):
            if t != gap:
                Image.fromarray(frame).save(folder / f"frame{t:06d}.png")
                parts = np.full((48, 48, 3), (7, 9, i), np.uint8)
                Image.fromarray(parts).save(folder / f"frame{t:06d}_IUV.png")
