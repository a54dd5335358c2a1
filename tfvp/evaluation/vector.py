"""Curves as SVG for a page, which colours them by its style sheet."""

import html
import math

import numpy as np

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 30, 42  # margins of the plot in the picture
MOST_TICKS = 7


def panels(curves):
    """{metric: the text of an SVG element} of `tfvp.evaluation.curves.Curves`.

    Lines have the classes s0, s1, ... by colour, main, dashed and dotted; bands the class band. A line of the class
    cursor marks a frame; its element says where the first and the last frame lie (data-first, data-last).
    """
    return {metric: _panel(curves, metric, series) for metric, series in curves.panels.items()}


def _panel(curves, metric, series):
    length = max(len(one.mean) for one in series)
    edges = [edge for one in series for edge in (one.mean, one.low, one.high) if edge is not None]
    finite = np.concatenate([edge[np.isfinite(edge)] for edge in edges])
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = (high - low) * 0.04 or abs(high) * 0.04 or 1.0
    low, high = low - margin, high + margin

    def x(frame):
        share = (frame - 1) / (length - 1) if length > 1 else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    title = html.escape(curves.headings[metric].with_arrow())
    parts = [f'<text class="title" x="{LEFT}" y="18">{title}</text>']
    for value in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{_tick(value, low, high)}</text>')
    for frame in frame_ticks(length):
        parts.append(f'<text class="tick middle" x="{x(frame):.1f}" y="{HEIGHT - BOTTOM + 16}">{frame}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick middle" x="{middle:.0f}" y="{HEIGHT - 8}">{html.escape(curves.frames)}</text>')
    parts.append(f'<line class="cursor" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    parts += [_band(one, x, y) for one in series if one.low is not None]
    parts += [_line(one, x, y) for one in reversed(series)]
    described = html.escape(describe(curves, metric, series), quote=True)
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}"'
        f' data-first="{x(1):.1f}" data-last="{x(length):.1f}" data-frames="{length}">{"".join(parts)}</svg>'
    )


def describe(curves, metric, series):
    """What a panel shows, in words: where each curve begins and ends."""
    ends = []
    for one in series:
        known = one.mean[np.isfinite(one.mean)]
        if len(known):
            ends.append(f"{one.name} from {known[0]:.4g} to {known[-1]:.4g}")
    return f"{curves.headings[metric].plain()} over {curves.frames}: {'; '.join(ends)}"


def ticks(low, high):
    """At most `MOST_TICKS` round numbers between `low` and `high`, evenly spaced."""
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [n * step for n in range(first, last + 1)]


def frame_ticks(length):
    """Numbers of frames to write on an axis from 1 to `length`: the ends, and round numbers between them."""
    step = next(m * 10**p for p in range(9) for m in (1, 2, 5) if length / (m * 10**p) <= MOST_TICKS)
    between = [n for n in range(step, length, step) if n - 1 >= 0.75 * step and length - n >= 0.75 * step]
    return sorted({1, length, *between})


def _tick(value, low, high):
    step = (high - low) / (MOST_TICKS - 1)
    digits = max(0, -math.floor(math.log10(step)))
    return f"{value:.{digits}f}" if digits < 5 and abs(value) < 1e5 else f"{value:.1e}"


def _runs(*edges):
    """Stretches of frames at which all `edges` are finite: lists of indices."""
    finite, stretches = np.logical_and.reduce([np.isfinite(edge) for edge in edges]), []
    for t in np.flatnonzero(finite):
        if stretches and stretches[-1][-1] == t - 1:
            stretches[-1].append(t)
        else:
            stretches.append([t])
    return stretches


def _band(series, x, y):
    polygons = []
    for run in _runs(series.low, series.high):
        there = [f"{x(t + 1):.1f},{y(series.high[t]):.1f}" for t in run]
        back = [f"{x(t + 1):.1f},{y(series.low[t]):.1f}" for t in reversed(run)]
        polygons.append(f'<polygon class="band s{series.colour % 8}" points="{" ".join(there + back)}"/>')
    return "".join(polygons)


def _line(series, x, y):
    classes = f"s{series.colour % 8}" + (" main" if series.main else "") + (f" {series.dash}" if series.dash else "")
    lines = []
    for run in _runs(series.mean):
        points = [f"{x(t + 1):.1f},{y(series.mean[t]):.1f}" for t in run]
        if len(points) == 1:
            place = points[0].split(",")
            lines.append(f'<circle class="dot {classes}" cx="{place[0]}" cy="{place[1]}" r="3.5"/>')
        lines.append(f'<polyline class="curve {classes}" points="{" ".join(points)}"/>')
    return "".join(lines)
