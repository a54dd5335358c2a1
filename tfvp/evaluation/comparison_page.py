"""One self-contained HTML page with videos that play in step."""

import base64
import html
import io
import json

import numpy as np
from PIL import Image

from tfvp.frames import as_rgb, grid

COLUMNS = 40  # frames side by side in the picture that a video is stored as
SHORTEST_SIDE = 128  # pixels that a frame has on the page, at least

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em}
pre{background:#f4f4f4;padding:1em;overflow-x:auto}.curves{max-width:100%}
.row{display:flex;flex-wrap:wrap;gap:.6em;margin:.6em 0}figure{margin:0}figcaption{font-size:.85em}
canvas{image-rendering:pixelated;border:3px solid #00b200}canvas.predicted{border-color:#b20000}
.bar{position:sticky;top:0;background:#fff;padding:.5em 0}input{width:20em;vertical-align:middle}"""

_SCRIPT = """
const canvases = [...document.querySelectorAll('canvas')];
const slider = document.getElementById('frame'), label = document.getElementById('label');
const button = document.getElementById('play');
let playing = true, drawn = 0;
function show(t) {
  for (const canvas of canvases) {
    const image = canvas.sprite, w = canvas.width, h = canvas.height;
    if (!image || !image.complete) continue;
    const x = (t % COLUMNS) * w, y = Math.floor(t / COLUMNS) * h;
    canvas.getContext('2d').drawImage(image, x, y, w, h, 0, 0, w, h);
    canvas.classList.toggle('predicted', t >= CONTEXT && canvas.dataset.video !== 'truth');
    drawn += 1;
  }
  slider.value = t;
  label.textContent = 'frame ' + (t + 1) + ' of ' + FRAMES + (t < CONTEXT ? ', observed' : ', predicted');
  document.body.dataset.frame = t; document.body.dataset.drawn = drawn;
}
Promise.all(canvases.map((canvas, i) => new Promise(done => {
  const image = new Image();
  image.onload = done; image.src = SPRITES[i]; canvas.sprite = image;
}))).then(() => {
  show(0);
  setInterval(() => { if (playing) show((Number(slider.value) + 1) % FRAMES); }, 125);
});
slider.oninput = () => { playing = false; button.textContent = 'play'; show(Number(slider.value)); };
button.onclick = () => { playing = !playing; button.textContent = playing ? 'pause' : 'play'; };
"""


def page(heading, table, curves, videos, context, notes=()):
    """The page as text.

    Args:
        heading: one line.
        table: escaped text.
        curves: path of a PNG file.
        videos: {name: uint8 [clips, T, H, W, C]}, all of one shape.
        context: observed frames; borders turn from green to red after them.
        notes: sentences about the statistics.
    """
    clips, frames = next(iter(videos.values())).shape[:2] if videos else (0, 0)
    sprites, rows = [], []
    for clip in range(clips):
        figures = []
        for name, video in videos.items():
            shown = as_rgb(video[clip])
            height, width = shown.shape[1:3]
            zoom = max(1, -(-SHORTEST_SIDE // min(height, width)))
            sprites.append(_sprite(shown))
            figures.append(
                f'<figure><canvas data-video="{html.escape(name)}" width="{width}" height="{height}"'
                f' style="width:{zoom * width}px"></canvas><figcaption>{html.escape(name)}</figcaption></figure>'
            )
        rows.append(f'<div class="row">{"".join(figures)}</div>')
    values = {"COLUMNS": COLUMNS, "CONTEXT": context, "FRAMES": frames, "SPRITES": sprites}
    constants = "".join(f"const {key} = {json.dumps(value)};" for key, value in values.items())
    encoded = base64.b64encode(curves.read_bytes()).decode()
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(heading)}</title><style>{_STYLE}</style>
<h1>{html.escape(heading)}</h1><pre>{table}</pre>
{"".join(f"<p>{html.escape(note)}</p>" for note in notes)}
<img class="curves" alt="curves" src="data:image/png;base64,{encoded}">
<h2>Clips</h2><div class="bar"><button id="play">pause</button>
<input id="frame" type="range" min="0" max="{frames - 1}" value="0"> <span id="label"></span></div>
{"".join(rows)}<script>{constants}{_SCRIPT}</script>
</html>
"""


def _sprite(video):
    """RGB frames [T, H, W, 3] in rows of `COLUMNS`, as a data URL."""
    rows = -(-len(video) // COLUMNS)
    padded = np.concatenate([video, np.zeros((rows * COLUMNS - len(video), *video.shape[1:]), np.uint8)])
    picture = grid(padded[:, None], columns=COLUMNS, gap=0)[0]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
