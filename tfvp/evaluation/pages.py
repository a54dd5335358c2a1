"""HTML pages of evaluations and comparisons: one self-contained file each, which asks no host for anything."""

import html
import json
import pathlib

from tfvp.evaluation import documents, facts, player, tables, vector

DIRECTIONS = {1: "higher is better", -1: "lower is better"}


def evaluation(document, curves, clips, observed, fps):
    """The page of an evaluation.

    Args:
        document: the contents of metrics.json.
        curves: `tfvp.evaluation.curves.Curves`.
        clips: list of `tfvp.evaluation.player.Clip`; may be empty.
        observed: frames before the first predicted one.
        fps: of the videos at speed 1.
    """
    title = f"{facts.mode(document)} evaluation of {facts.model(document)}"
    sections = [
        ("numbers", "Numbers", table(tables.of_evaluation(document))),
        ("curves", "Curves over predicted frames", drawing(curves)),
        ("clips", "Clips", player.section(clips, observed, fps) if clips else ""),
        ("how", "How the numbers were made", _conventions(document) + _everything(document)),
    ]
    return _page(title, tables.describe(document), facts.of_evaluation(document), facts.warnings(document), sections)


def comparison(title, document, table_of_all, curves, clips, observed, fps, notes):
    """The page of a comparison.

    Args:
        title: the heading.
        document: the contents of comparison.json.
        table_of_all: the `tfvp.evaluation.tables.Table`.
        curves, clips, observed, fps: as in `evaluation`.
        notes: sentences about the statistics.
    """
    sections = [
        ("numbers", "Numbers", table(table_of_all) + _list("notice", notes)),
        ("curves", "Curves over predicted frames", drawing(curves)),
        ("clips", "Clips", player.section(clips, observed, fps) if clips else ""),
        ("how", "How the numbers were made", _everything(document)),
    ]
    warnings = [f"Modified protocol: {change}." for change in tables.modifications(document)]
    return _page(title, tables.describe(document), facts.of_comparison(document), warnings, sections)


def table(content):
    """The HTML of a `tfvp.evaluation.tables.Table`, in a box that scrolls sideways where it is too wide."""
    wordy = [any(row.cells[i].words for row in content.rows) for i in range(len(content.columns))]
    kinds = [' class="words"' if words else "" for words in wordy]
    columns = "".join(f'<th scope="col"{kind}>{_heading(c)}</th>' for kind, c in zip(kinds, content.columns))
    rows, last = [], None
    for row in content.rows:
        if row.group and row.group is not last:
            span = len(content.columns) + 1
            rows.append(f'<tr><th scope="rowgroup" colspan="{span}"><span>{_heading(row.group)}</span></th></tr>')
        last = row.group
        kind = ' class="minor"' if row.heading.minor else ""
        cells = "".join(map(_cell, row.cells))
        rows.append(f'<tr{kind}><th scope="row">{_heading(row.heading)}</th>{cells}</tr>')
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="table of the numbers"><table>
<thead><tr><th class="corner" scope="col">{html.escape(content.corner)}</th>{columns}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<p class="muted">{html.escape(content.explanation)}</p>"""


def _heading(title):
    arrow = tables.ARROWS[title.direction]
    meaning = DIRECTIONS.get(title.direction, "")
    return " ".join(
        filter(
            None,
            (
                html.escape(title.name),
                f'<span class="unit">({html.escape(title.unit)})</span>' if title.unit else "",
                f'<span role="img" aria-label="{meaning}" title="{meaning}">{arrow}</span>' if arrow else "",
                f'<span class="tag" title="{html.escape(title.broken, quote=True)}">broken</span>'
                if title.broken
                else "",
            ),
        )
    )


def _cell(cell):
    number = html.escape(cell.number())
    if cell.words:
        return f'<td class="words">{number}</td>'
    interval = f'<span class="interval">{cell.bounds()}</span>' if cell.interval else ""
    return f'<td class="best"><strong>{number}</strong>{interval}</td>' if cell.best else f"<td>{number}{interval}</td>"


def drawing(curves):
    """The HTML of `tfvp.evaluation.curves.Curves`: one legend and a picture per metric; "" without a curve."""
    if not curves.panels:
        return ""
    entries = []
    for name, one in curves.legend().items():
        classes = f"curve s{one.colour % 8}" + (" main" if one.main else "") + (f" {one.dash}" if one.dash else "")
        line = f'<svg viewBox="0 0 30 12" aria-hidden="true"><polyline class="{classes}" points="0,6 30,6"/></svg>'
        entries.append(f"<li>{line}{html.escape(name)}</li>")
    banded = any(one.low is not None for series in curves.panels.values() for one in series)
    caption = f"Bands: {curves.band}." if banded else ""
    drawn = "".join(vector.panels(curves).values())
    return (
        f'<figure><ul class="legend">{"".join(entries)}</ul><div class="panels">{drawn}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _conventions(document):
    entries = []
    for metric, summary in document[documents.predictors(document)[0]].items():
        title = tables.heading(metric, summary)
        sentences = [summary.get("convention", "")]
        if title.broken:
            sentences.append(f"Broken: {title.broken}")
        if title.direction:
            sentences.append(f"{DIRECTIONS[title.direction].capitalize()}.")
        if summary.get("weights_sha256"):
            sentences.append(f"Network: {summary.get('network', '')}, SHA-256 {summary['weights_sha256']}.")
        said = " ".join(_sentence(s) for s in sentences if s)
        entries.append(f"<dt>{html.escape(title.plain())}</dt><dd>{html.escape(said)}</dd>")
    return f"<details><summary>What each metric computes</summary><dl>{''.join(entries)}</dl></details>"


def _sentence(words):
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _everything(document):
    """What the document says of protocol, data, networks and run, a details element each."""
    names = {"protocol": "Protocol", "data": "Data", "networks": "Networks that metrics use", "run": "Run"}
    parts = []
    for key, name in names.items():
        values = document.get(key)
        if not values:
            continue
        if isinstance(values, list):
            values = {str(v.get("name", i)) if isinstance(v, dict) else str(i): v for i, v in enumerate(values)}
        entries = "".join(
            f"<dt>{html.escape(k)}</dt><dd><code>{html.escape(_fact(v))}</code></dd>"
            for k, v in values.items()
            if v not in ("", None, [], {}) and (key, k) != ("data", "windows")  # thousands of entries: in metrics.json
        )
        parts.append(f"<details><summary>{name}</summary><dl>{entries}</dl></details>")
    return "".join(parts)


def _fact(value):
    return value if isinstance(value, str) else json.dumps(value)


def _list(kind, sentences):
    if not sentences:
        return ""
    if len(sentences) == 1:
        return f'<div class="{kind}">{html.escape(sentences[0])}</div>'
    return f'<div class="{kind}"><ul>{"".join(f"<li>{html.escape(s)}</li>" for s in sentences)}</ul></div>'


def _page(title, lead, known, warnings, sections):
    style = (pathlib.Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    sections = [(name, heading, text) for name, heading, text in sections if text]
    links = "".join(f'<a href="#{name}">{html.escape(heading)}</a>' for name, heading, _ in sections)
    cards = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in known)
    body = "\n".join(f'<section id="{n}"><h2>{html.escape(h)}</h2>{text}</section>' for n, h, text in sections)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{style}</style></head>
<body><header><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>
{_list("notice warning", warnings)}<dl class="facts">{cards}</dl><nav aria-label="Sections">{links}</nav></header>
<main>{body}</main></body></html>
"""
