"""Reference flow between frames, by OpenCV's DIS (Kroeger et al. 2016, arXiv 1603.03590).

Lee et al. (ICLR 2021) use a trained FlowNet2 here; DIS needs no weights. It is computed as
clips are read, for whatever spacing and frame size a model asks for.
"""

import numpy as np

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
    found = np.zeros((clips, frames, height, width, 2), np.float32)
    for clip in range(clips):
        images = [cv2.resize(g, (width * scale, height * scale)) for g in grey[clip]] if scale > 1 else grey[clip]
        for t in range(spacing, frames):
            flow = search.calc(images[t], images[t - spacing], None)
            found[clip, t] = flow[scale // 2 :: scale, scale // 2 :: scale] / scale
    return found


def _grey(video):
    """uint8 [N, T, H, W]."""
    if video.dtype != np.uint8:
        video = np.round(np.clip(video, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(video[..., :3].mean(axis=-1).round().astype(np.uint8))
