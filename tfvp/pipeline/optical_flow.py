"""Reference flow between frames, by OpenCV's DIS (Kroeger et al. 2016, arXiv 1603.03590).

Lee et al. (ICLR 2021) use a trained FlowNet2 here; DIS needs no weights. It is computed as
clips are read, for any spacing and frame size that a model asks for. Flow of other methods is
read from files.
"""

import functools
import pathlib

import numpy as np

from tfvp.errors import UserError
from tfvp.frames import to_uint8

FINEST = 128  # pixels; frames with a shorter side are enlarged for the search, which then errs half as much


def reference_flow(video, spacing=1):
    """Where each pixel was `spacing` frames earlier.

    Args:
        video: uint8 [N, T, H, W, C], or float32 in [0, 1].
        spacing: frames.

    Returns:
        float32 [N, T, H, W, 2], (x, y) in pixels: frame t at p is frame t - spacing at
        p + flow[:, t, p]. Zeros for the first `spacing` frames.
    """
    import cv2

    grey = _grey(video)
    clips, frames, height, width = grey.shape
    scale = max(1, -(-FINEST // min(height, width)))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = np.zeros((clips, frames, height, width, 2), np.float32)
    for clip in range(clips):
        images = [cv2.resize(g, (width * scale, height * scale)) for g in grey[clip]] if scale > 1 else grey[clip]
        for t in range(spacing, frames):
            flow = search.calc(images[t], images[t - spacing], None)
            flows[clip, t] = flow[scale // 2 :: scale, scale // 2 :: scale] / scale
    return flows


def _grey(video):
    """uint8 [N, T, H, W]."""
    return np.ascontiguousarray(to_uint8(video)[..., :3].mean(axis=-1).round().astype(np.uint8))


class FlowFiles:
    """Flow from files, in place of `reference_flow`.

    A clip named "a/b.mp4" has `<folder>/a/b.mp4.flow.npy`, and `...flow3.npy` for a spacing of 3:
    float [T, H, W, 2] for all its frames, (x, y) in pixels of data.image_size. Entry t says where
    each pixel of frame t was `spacing` x data.frame_stride frames earlier. With data.crop_margin the same files are
    enlarged as the frames are.

    Args:
        folder: data.flow.
        dataset: a prepared data set that is read from files.
        split: whose clips are read.
        keys: "flow" and "flow3", or one of them.

    Raises:
        UserError: the data set has no files, the folder does not exist, the flow of a clip is missing, damaged, or
            of another size; or the frames that a margin is cropped from show another part of the video.
    """

    def __init__(self, folder, dataset, split, keys):
        self.folder, self.dataset = pathlib.Path(folder), dataset
        if not self.folder.is_dir():
            raise UserError(
                f"data.flow={folder} is not a directory; name the folder of the flow files, or leave it empty"
            )
        if not hasattr(dataset, "store"):
            raise UserError(f"data.flow: clips of {dataset.name} have no names that files could have; leave it empty")
        height, width = dataset.settings.model_size
        if dataset.settings.margin and height != width and dataset.preprocessing.resize == "crop":
            raise UserError(
                f"data.flow and data.crop_margin do not go together with frames of {height}x{width} that are cropped:"
                " the larger ones show another part of the video; set data.resize=area, data.crop_margin=0 or no"
                " data.flow"
            )
        self.lengths = dataset.clip_lengths(split)
        self.names = dataset.clip_names(split, np.arange(len(self.lengths)))
        self.opened = functools.lru_cache(maxsize=256)(self._opened)
        for clip in range(len(self.names)):
            for key in keys:
                self._opened(clip, key)

    def read(self, key, clips, starts, length, stride):
        """What `reference_flow` gives for windows; see `VideoDataset.read`."""
        spacing = int(key[len("flow") :] or 1)
        windows = np.zeros((len(clips), length, *self.dataset.frame_shape[:2], 2), np.float32)
        for row, (clip, start) in enumerate(zip(clips, starts)):
            flow = self.opened(int(clip), key)[start : start + (length - 1) * stride + 1 : stride]
            windows[row] = _enlarged(flow, windows.shape[2:4]) if self.dataset.settings.margin else flow
        windows[:, :spacing] = 0.0
        return windows

    def _opened(self, clip, key):
        path = self.folder / f"{self.names[clip]}.{key}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read the flow {path}: {error}; write it, or leave data.flow empty") from None
        wanted = (int(self.lengths[clip]), *self.dataset.settings.model_size, 2)
        if array.shape != wanted or array.dtype.kind != "f":
            raise UserError(f"{path} holds {array.dtype} {list(array.shape)}; write floats {list(wanted)}")
        return array


def _enlarged(flow, size):
    """Flow [T, h, w, 2] of the same frames at another size (height, width), float32 [T, height, width, 2]."""
    import cv2

    ratio = np.array([size[1] / flow.shape[2], size[0] / flow.shape[1]], np.float32)
    return np.stack([cv2.resize(np.asarray(one, np.float32), size[::-1]) for one in flow]) * ratio
