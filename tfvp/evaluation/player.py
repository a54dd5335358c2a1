"""Videos that play in step on a page: pictures of all frames, and the script that draws from them."""

import base64
import dataclasses
import html
import io
import json
import pathlib

import numpy as np
from PIL import Image

from tfvp.frames import as_rgb, grid

WIDEST = 4096  # pixels of the picture that a video is stored as, where its frames are not wider
SHORTEST_SIDE = 160  # pixels that a frame has on the page, at least
WIDE = 1.6  # aspect ratio above which a frame has a narrow screen's width for itself
MOST_BYTES = 64 * 2**20  # of all frames, uncompressed, that are stored without loss
SPEEDS = (0.25, 0.5, 1, 2, 4)


@dataclasses.dataclass
class Panel:
    """One video of a clip.

    Attributes:
        name: what stands below it.
        video: uint8 [T, H, W, C].
        truth: whether no frame of it is predicted.
    """

    name: str
    video: np.ndarray
    truth: bool = False


@dataclasses.dataclass
class Clip:
    """A row of videos.

    Attributes:
        title, detail: what stands above it.
        panels: its videos.
        difference: numbers of two panels whose absolute difference is shown last, or None.
    """

    title: str
    detail: str
    panels: list[Panel]
    difference: tuple[int, int] | None = None


def section(clips, observed, fps):
    """The HTML of a player, its clips and its script.

    Args:
        clips: list of `Clip`, all with as many frames.
        observed: frames before the first predicted one; borders turn from green to red there.
        fps: frames per second at speed 1.
    """
    exact = sum(as_rgb(p.video[:1]).nbytes * len(p.video) for clip in clips for p in clip.panels) <= MOST_BYTES
    sheets, rows = [], []
    for clip in clips:
        rows.append(_row(clip, len(sheets)))
        sheets += [_sheet(panel.video, exact) for panel in clip.panels]
    frames = len(clips[0].panels[0].video)
    data = json.dumps({"frames": frames, "observed": observed, "fps": fps, "sheets": sheets})
    speeds = "".join(
        f'<option value="{speed}"{" selected" if speed == 1 else ""}>{speed:g} ×</option>' for speed in SPEEDS
    )
    lossy = "" if exact else " The videos are long, so their pictures are compressed with loss."
    folder = pathlib.Path(__file__).parent
    script = "".join((folder / name).read_text(encoding="utf-8") for name in ("clock.js", "page.js"))
    return f"""<p class="muted">Borders: <span class="key"></span> observed or true frames,
<span class="key predicted"></span> predicted frames. Space plays and pauses, arrow keys step.{lossy}</p>
<noscript><p class="notice warning">The videos need JavaScript.</p></noscript>
<div class="player" role="group" aria-label="Playback of all clips">
<button type="button" id="play">Pause</button>
<button type="button" id="back" aria-label="previous frame">−1</button>
<button type="button" id="forward" aria-label="next frame">+1</button>
<input id="frame" type="range" min="0" max="{frames - 1}" value="0" aria-label="frame">
<output id="label" for="frame"></output>
<label>Speed <select id="speed">{speeds}</select></label></div>
{"".join(rows)}
<script type="application/json" id="videos">{data}</script>
<script>{script}</script>"""


def _row(clip, first):
    figures = [
        _figure(panel.name, panel.video, f'data-sheet="{first + i}"' + (" data-truth" if panel.truth else ""), clip)
        for i, panel in enumerate(clip.panels)
    ]
    if clip.difference:
        one, other = clip.difference
        name = f"difference: {clip.panels[one].name} − {clip.panels[other].name}"
        data = f'data-sheet="{first + one}" data-minus="{first + other}"'
        figures.append(_figure(name, clip.panels[one].video, data, clip))
    return (
        f'<section class="clip"><h3>{html.escape(clip.title)}</h3><p class="muted">{html.escape(clip.detail)}</p>'
        f'<div class="row">{"".join(figures)}</div></section>'
    )


def _figure(name, video, data, clip):
    height, width = as_rgb(video[:1]).shape[1:3]
    zoom = max(1, -(-SHORTEST_SIDE // min(height, width)))
    wide = ' class="wide"' if width > WIDE * height else ""
    described = html.escape(f"video, {name}: {clip.title}", quote=True)
    return (
        f'<figure{wide} style="width:{zoom * width + 6}px"><canvas role="img" aria-label="{described}" {data}'
        f' width="{width}" height="{height}" style="width:{zoom * width}px"></canvas>'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )


def _sheet(video, exact):
    """All frames of uint8 [T, H, W, C] in one picture, row by row: {"columns", "source": a data URL}."""
    shown = video if video.shape[-1] == 1 else as_rgb(video)
    columns = max(1, min(len(shown), WIDEST // shown.shape[2]))
    missing = -len(shown) % columns
    padded = np.concatenate([shown, np.zeros((missing, *shown.shape[1:]), np.uint8)])
    picture = grid(padded[:, None], columns=columns, gap=0)[0]
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    buffer = io.BytesIO()
    if exact:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=90)
    kind = "png" if exact else "jpeg"
    return {"columns": columns, "source": f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"}
