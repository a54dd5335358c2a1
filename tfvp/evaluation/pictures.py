"""Predictions beside the truth, as videos and strips."""

import numpy as np

from tfvp.frames import as_rgb

OBSERVED, PREDICTED = (0, 178, 0), (178, 0, 0)  # border colours of true and of predicted frames
STRIP_FRAMES = 12


def comparison(truth, samples, context):
    """A video of truth | predictions | difference, with borders: green observed, red predicted.

    Args:
        truth: uint8 [T, H, W, C].
        samples: uint8 [S, T - first, H, W, C], the last frames of `truth` as predicted.
        context: observed frames.

    Returns:
        uint8 [T, H', W', 3]; the difference is that of the first sample.
    """
    full = [_with_context(truth, sample) for sample in samples[:3]]
    difference = np.abs(truth.astype(np.int16) - full[0].astype(np.int16)).astype(np.uint8)
    colours = [OBSERVED if t < context else PREDICTED for t in range(len(truth))]
    panels = [_bordered(truth, [OBSERVED] * len(truth))]
    panels += [_bordered(video, colours) for video in full]
    return np.concatenate([*panels, _bordered(difference, colours)], axis=2)


def futures(observed, predicted, truth=None):
    """A video of predictions side by side, with borders: green observed, red predicted.

    Args:
        observed: uint8 [T, H, W, C].
        predicted: uint8 [S, horizon, H, W, C], what follows.
        truth: uint8 [n, H, W, C], n at most `horizon`: what really follows, in a first panel that is black after it.

    Returns:
        uint8 [T + horizon, H', W', 3]; the sides are even, as video encoders require.
    """
    colours = [OBSERVED] * len(observed) + [PREDICTED] * predicted.shape[1]
    panels = [_bordered(np.concatenate([observed, sample]), colours) for sample in predicted]
    if truth is not None:
        known = np.concatenate([observed, truth])
        known = _bordered(known, [OBSERVED] * len(known))
        panels.insert(0, np.pad(known, [(0, len(colours) - len(known)), (0, 0), (0, 0), (0, 0)]))
    video = np.concatenate(panels, axis=2)
    return np.pad(video, [(0, 0), (0, video.shape[1] % 2), (0, video.shape[2] % 2), (0, 0)])


def comparison_strip(truth, samples, context):
    """Frames of `comparison` side by side in time, truth above predictions above difference."""
    video = comparison(truth, samples, context)
    times = np.unique(np.linspace(0, len(video) - 1, STRIP_FRAMES).round().astype(int))
    panels = np.split(video[times], video.shape[2] // (truth.shape[2] + 2), axis=2)
    return np.concatenate([np.concatenate(list(panel), axis=1) for panel in panels], axis=0)


def _with_context(truth, prediction):
    return np.concatenate([truth[: len(truth) - len(prediction)], prediction])


def _bordered(video, colours):
    """RGB frames [T, H + 2, W + 2, 3] with a border of one pixel, a colour per frame."""
    rgb = as_rgb(video)
    framed = np.empty((len(rgb), rgb.shape[1] + 2, rgb.shape[2] + 2, 3), np.uint8)
    framed[:] = np.asarray(colours, np.uint8)[:, None, None]
    framed[:, 1:-1, 1:-1] = rgb
    return framed
