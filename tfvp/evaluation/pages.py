"""The HTML page of an evaluation."""

import base64
import html
import json

from tfvp.evaluation import tables


def page(document, curves, drawn):
    protocol = document["protocol"]
    facts = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(_fact(v))}</td></tr>" for k, v in protocol.items())
    run = "".join(
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(_fact(v))}</td></tr>"
        for k, v in document.get("run", {}).items()
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in document.get("notes", []))
    conventions = "".join(
        f"<tr><th>{html.escape(m)}</th><td>{html.escape(s.get('broken') or s.get('convention', ''))}</td></tr>"
        for m, s in document[tables.predictors(document)[0]].items()
    )
    gifs = "".join(f'<img alt="{p.stem}" src="{_embedded(p)}">' for p in drawn if p.suffix == ".gif")
    strips = "".join(f'<img alt="{p.stem}" src="{_embedded(p)}">' for p in drawn if p.suffix == ".png")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{html.escape(str(protocol.get("name", "evaluation")))}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}}
pre{{background:#f4f4f4;padding:1em;overflow-x:auto}}img{{image-rendering:pixelated;margin:.3em;min-width:20em;max-width:100%}}
th{{text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap}}.curves{{image-rendering:auto}}</style>
<h1>Open-loop evaluation: {html.escape(str(protocol.get("name", "")))}</h1>
<pre>{html.escape(tables.text(document))}</pre>{notes}
<img class="curves" alt="curves" src="{_embedded(curves)}">
<h2>Clips</h2><p>Truth, prediction, difference. Green frames are observed, red ones predicted.</p>{gifs}{strips}
<h2>Protocol</h2><table>{facts}</table><h2>Metrics</h2><table>{conventions}</table><h2>Run</h2><table>{run}</table>
</html>
"""


def _fact(value):
    return value if isinstance(value, str) else json.dumps(value)


def _embedded(path):
    kind = "gif" if path.suffix == ".gif" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
