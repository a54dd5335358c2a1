"""Videos in and out: mp4, avi, mov, mkv, gif, npy, npz and folders of images.

Decoding is FFmpeg's (through PyAV) and Pillow's. What this file adds is one shape for all of
them, uint8 [T, H, W, C], the resizing that the published protocols use, and the rule that a
damaged file is an error: FFmpeg conceals damage and stops quietly at the end of a truncated file.
"""

import collections.abc
import contextlib
import fractions
import functools
import os
import pathlib
import re
import typing

import av
import numpy as np
from PIL import Image

from tfvp import files, passing_errors, video_arrays, video_decoding, video_parts
from tfvp.errors import UserError
from tfvp.frames import Converter, av_frame, grid, luma, strip, to_uint8

__all__ = [
    "array_shape",
    "grid",
    "iterate_video",
    "list_images",
    "luma",
    "natural_key",
    "read_image",
    "read_video",
    "strip",
    "to_uint8",
    "write_video",
]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm")
ARRAY_SUFFIXES = (".npy", ".npz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
READABLE_SUFFIXES = (*VIDEO_SUFFIXES, ".gif", *ARRAY_SUFFIXES)
_WIDE_AS_INTEGERS = ("PNG", "PPM")  # formats whose values of 16 bits some versions of Pillow give in 32
CONTACT_SHEET = "contact_sheet.png"  # what `tfvp data` draws; never a frame
RESIZE_MODES = ("squash", "area", "crop", "kitti")


def natural_key(name: str) -> list[tuple]:
    """Sorts text with numbers by their value: "clip2" before "clip10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", str(name))]


def read_video(
    path: str | os.PathLike,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "area",
    fps: float = 0.0,
    file: typing.BinaryIO | None = None,
) -> np.ndarray:
    """A whole video as an array.

    Args:
        path: a file, or a folder of images in natural order, one frame each. Of values of 16 bits the upper byte is
            taken; other integers are in [0, 255], floats in [0, 1].
        image_size: (height, width) in pixels; None keeps the video's own.
        channels: 1 = grey (Rec. 601 luma), 3 = RGB; None keeps the video's own, RGB where only some images of a folder
            have colours.
        resize: "squash" = the whole frame, bicubic, as `ffmpeg -s` does; "area" = the whole
            frame, every pixel the mean of the area that it covers; "crop" = the largest
            central part of the right aspect ratio, then as "area"; "kitti" = 5 central columns
            for every 4 rows (`tfvp.frames.centre`), then as "area".
        fps: frames per second to resample to, by holding frames; 0 keeps every frame. Arrays
            and folders of images carry no rate and are taken as they are.
        file: an open binary file to read in place of `path`, which then only names it.

    Returns:
        uint8 [T, H, W, C].

    Raises:
        UserError: the file is missing, empty, truncated, damaged or not a video.
    """
    return np.concatenate(list(iterate_video(path, image_size, channels, resize, fps, file)))


def iterate_video(
    path: str | os.PathLike | np.ndarray,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "area",
    fps: float = 0.0,
    file: typing.BinaryIO | None = None,
    chunk: int = 64,
    select: collections.abc.Callable[[collections.abc.Iterator], collections.abc.Iterable] = iter,
    last: int = 0,
    part: video_parts.Part | None = None,
) -> collections.abc.Iterator[np.ndarray]:
    """Yields a video in pieces, uint8 [at most `chunk`, H, W, C]; see `read_video`.

    Damage is reported after all frames before it, so pieces that came before the error are good frames
    of an incomplete file (`tfvp.video_decoding.Truncated`).

    Args:
        path: also frames, [T, H, W] or [T, H, W, C], which are taken as a .npy file of them would be.
        select: picks from the frames at rate `fps`, which it is given before they are resized: it
            decides how far the file is decoded, and for which frames the rest of the work is done.
        last: of how many frames at the end at least it is given; 0 = of all. Where a file can be searched for them, the
            rest is not decoded, and damage there is not met.
        part: one of `divide`, to read in place of the whole film.

    Raises:
        UserError: as for `read_video`; `tfvp.video_parts.Indivisible` where `part` may not be what the whole film holds
            there.
    """
    array, path = (path, "the array") if isinstance(path, np.ndarray) else (None, pathlib.Path(path))
    if resize not in RESIZE_MODES:
        raise ValueError(f"resize must be one of {', '.join(RESIZE_MODES)}, not {resize!r}")
    pending, damage, shape = [], [], None
    with _readable(path, file) if array is None else contextlib.nullcontext():
        if array is None and file is None and channels is None and path.is_dir():
            channels = _channels_in(path)
        convert = Converter(image_size, channels, resize)
        if array is None:
            frames = _open(path, file, 0 if fps else last, part)  # resampling counts time from the first frame
        else:
            frames = ((None, None, frame) for frame in video_arrays.frames_of(path, array[-last:]))
        for frame in select(_at_rate(_some(_good(frames, damage), path), fps, part)):
            frame = convert.colours(convert(frame() if callable(frame) else frame))
            shape = shape or frame.shape
            if frame.shape != shape:
                raise UserError(f"{path} has frames of different sizes; set data.image_size to make them equal")
            pending.append(frame)
            if len(pending) == chunk:
                yield np.stack(pending)
                pending = []
    if pending:
        yield np.stack(pending)
    if damage:
        raise damage[0]


def divide(path: pathlib.Path, frames: int) -> list[video_parts.Part]:
    """Divides a long film into parts of about `frames` frames, for `iterate_video`.

    Returns:
        The parts, which together are the film; [] where it has to be read in one go.
    """
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            return video_parts.evenly(len(list_images(path)), frames)
        if suffix == ".npy":
            return video_parts.evenly(array_shape(path)[0], frames)
    except (OSError, UserError):  # reading it says what is wrong
        return []
    return video_parts.divide(path, frames) if suffix in VIDEO_SUFFIXES else []


def read_image(
    path: str | os.PathLike,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "area",
) -> np.ndarray:
    """One image as uint8 [H, W, C]; arguments and errors as for `read_video`."""
    convert = Converter(image_size, channels, resize)
    return convert.colours(convert(_image(pathlib.Path(path))))


def read_classes(path: str | os.PathLike) -> np.ndarray:
    """A label map: the values, or palette indices, of a grey or palette image: uint8 [h, w].

    Raises:
        UserError: it is damaged, or has colours instead of class numbers.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise UserError(
                    f"{path} has colours, not class numbers (mode {image.mode}); save it as grey or palette PNG"
                )
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is damaged or not an image ({error}); replace or remove it") from None


def write_video(path: str | os.PathLike, frames: np.ndarray, fps: float = 8.0, codec: str | None = None) -> None:
    """Writes a video in the format that the suffix names; the file appears only when it is complete.

    Args:
        path: .mp4 (H.264), .avi (MPEG-4), .gif, .png (all frames side by side) or .npy.
        frames: [T, H, W, C] or [T, H, W], uint8 or floats in [0, 1]; C is 1 or 3.
        fps: frames per second. A GIF counts in hundredths of a second, and merges frames that
            are equal into one that stays longer.
        codec: another encoder of FFmpeg for .mp4 and .avi: "rawvideo", "mjpeg", "ffv1", ...

    Raises:
        UserError: the suffix is none of these, or the file cannot be written.
    """
    path = pathlib.Path(path)
    frames = to_uint8(frames)
    frames = frames[..., None] if frames.ndim == 3 else frames
    writer = {
        ".mp4": _encode_video,
        ".avi": _encode_video,
        ".gif": _write_gif,
        ".png": _write_png,
        ".npy": _write_array,
    }
    if path.suffix.lower() not in writer:
        raise UserError(f"cannot write {path}: the suffix must be one of {', '.join(writer)}")
    with files.atomic_write(path) as temporary:
        writer[path.suffix.lower()](temporary, frames, fps, codec)


def array_shape(path: str | os.PathLike, file: typing.BinaryIO | None = None) -> tuple[int, ...]:
    """The shape [T, H, W, C] of the video in a .npy or .npz file, without reading its frames.

    Args:
        path: of the file.
        file: what is read in its place; `path` says what it is.

    Raises:
        UserError: as `read_video`.
    """
    path = pathlib.Path(path)
    with _readable(path, file):
        return video_arrays.shape_of(path, file)


@contextlib.contextmanager
def _readable(path, file):
    """Turns any error of a decoder into one sentence that names the file."""
    if file is None and not path.exists():
        raise UserError(f"{path} does not exist")
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # FFmpeg, Pillow and NumPy raise many types here, and all of them mean the same to a user.
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        passing = passing_errors.passing(error)
        if passing is not None and not passing_errors.is_ambiguous(passing):
            raise UserError(f"{path} cannot be read at the moment ({reason}); try again") from error
        raise UserError(f"{path} is damaged, truncated or not a video ({reason}); replace or remove it") from error


def _open(path, file, last, part):
    """An iterator of (start, end, frame), in seconds or None; frames are arrays, PyAV's, or functions that read."""
    suffix = path.suffix.lower()
    chosen = slice(-last, None) if part is None else slice(part.begin, part.end)
    if file is None and path.is_dir():
        return _images(path, chosen)
    if suffix in ARRAY_SUFFIXES:
        return ((None, None, frame) for frame in video_arrays.frames_of(path, video_arrays.load(path, file)[chosen]))
    if part is not None:
        return video_parts.frames_of(path, part)
    if suffix == ".gif":
        return video_decoding.gif(path, file)
    return (last and not file and video_decoding.tail(path, last)) or video_decoding.whole(path, file)


def _good(frames, damage):
    """The frames before the first damage, which is added to the list `damage` if there are any."""
    some = False
    try:
        for frame in frames:
            some = True
            yield frame
    except video_decoding.Truncated as error:
        if not some:
            raise
        damage.append(error)


def _some(frames, path):
    """The frames, of which there must be one."""
    frame = next(frames, None)
    if frame is None:
        raise UserError(f"{path} holds no frames; replace or remove it")
    yield frame
    yield from frames


def _at_rate(frames, fps, part=None):
    if not fps:
        yield from (frame for _, _, frame in frames)
        return
    emitted, first, previous = 0, part and part.origin, None
    for start, end, frame in frames:
        if start is None:
            yield frame
            continue
        first = start if first is None else first
        if part and previous is None:  # go on with the numbers of the parts before
            emitted = max(0, int((start - first) * fps) - 2)
            while emitted / fps < start - first - 1e-4:
                emitted += 1
        while previous is not None and emitted / fps < start - first - 1e-4:
            yield previous[1]
            emitted += 1
        previous = (end - first, frame)
    until = part.until - first if part and part.until is not None else previous and previous[0]
    while previous is not None and emitted / fps < until - 1e-4:
        yield previous[1]
        emitted += 1


def _images(folder, chosen):
    for name in list_images(folder)[chosen]:
        yield None, None, functools.partial(_image, folder / name)


def _image(path):
    with _readable(path, None), Image.open(path) as image:
        # A photo in the format MPO holds others of the same view; everywhere else frames would be lost.
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise UserError(
                f"{path} holds {image.n_frames} images, but a frame is one; save each as a file of its own, or all as"
                " .npy, .gif or a video"
            )
        grey = _is_grey(image)
        if image.mode.startswith("I;16") or image.mode == "I" and image.format in _WIDE_AS_INTEGERS:
            array = (np.asarray(image) >> 8).astype(np.uint8)
        elif image.mode in ("I", "F"):
            (array,) = video_arrays.frames_of(path, np.asarray(image)[None])
        else:
            array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[..., None] if array.ndim == 2 else array


def _is_grey(image):
    return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")


def _channels_in(folder):
    """3 where an image of a folder has colours, else 1: programs save frames that happen to have none as grey."""
    for name in list_images(folder):
        with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(folder / name) as image:
            if not _is_grey(image):
                return 3
    return 1


def list_images(folder: str | os.PathLike) -> list[str]:
    """Names of the images in a folder, in natural order, without hidden ones and `CONTACT_SHEET`."""
    names = (
        entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.name != CONTACT_SHEET
    )
    return sorted((name for name in names if name.lower().endswith(IMAGE_SUFFIXES)), key=natural_key)


def _encode_video(path, frames, fps, codec):
    mp4 = path.suffix.lower() == ".mp4"
    codec = codec or ("libx264" if mp4 else "mpeg4")
    pixels = {"rawvideo": "bgr24", "mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
    # Colour is stored at half the resolution, which must then be even; the edge is repeated.
    odd = [n % 2 if pixels.startswith("yuv") else 0 for n in frames.shape[1:3]]
    frames = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    frames = np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames
    options = {"crf": "18"} if codec == "libx264" else {}
    # MPEG-4 has 16 bits for the numerator of a rate.
    denominator = min(10000, max(1, int(65535 / fps))) if codec == "mpeg4" else 10000
    with av.open(video_decoding.address(path), "w") as container:
        rate = fractions.Fraction(fps).limit_denominator(denominator)
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        if codec == "mpeg4":
            stream.codec_context.bit_rate = 32_000_000  # far more than it needs, which means the best quality
        for frame in frames:
            container.mux(stream.encode(av_frame(frame)))
        container.mux(stream.encode())


def _write_gif(path, frames, fps, codec):
    images = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)


def _write_array(path, frames, *_):
    with open(path, "wb") as file:  # to a name that does not end in lower case NumPy appends .npy
        np.save(file, frames)


def _write_png(path, frames, fps, codec):
    picture = strip(frames)
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(path)
