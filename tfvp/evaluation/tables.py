"""The numbers of evaluations and comparisons as tables, in plain text, Markdown and LaTeX."""

import dataclasses
import re

from tfvp import registry
from tfvp.evaluation import documents
from tfvp.metrics import protocols

MOST_COLUMNS = 10
ARROWS = {1: "↑", -1: "↓", 0: ""}
BEST = "*"  # marks the best number where type cannot be bold


@dataclasses.dataclass
class Heading:
    """The heading of a row or of a column.

    Attributes:
        name: what it says.
        unit: of the numbers, "" where they have none.
        direction: 1 where higher is better, -1 where lower is, 0 where the question makes no sense.
        broken: why the numbers must not be trusted, or "".
        minor: whether the row is a detail of the row above it.
    """

    name: str
    unit: str = ""
    direction: int = 0
    broken: str = ""
    minor: bool = False

    def plain(self):
        """The name with the unit and a warning, without an arrow."""
        return self.name + (f" ({self.unit})" if self.unit else "") + (" (broken)" if self.broken else "")

    def with_arrow(self):
        """The name with the unit, an arrow in the better direction, and a warning."""
        parts = (self.name, f"({self.unit})" if self.unit else "", ARROWS[self.direction])
        return " ".join(filter(None, (*parts, "(broken)" if self.broken else "")))


@dataclasses.dataclass
class Cell:
    """A cell: a number with its interval, or words.

    Attributes:
        value: the number, None where there is none.
        interval: (low, high), or None.
        best: whether it is the best of its kind.
        words: text instead of a number.
        shown: how the number is written, where four digits are not the way.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    best: bool = False
    words: str = ""
    shown: str = ""

    def number(self):
        """The number or the words as text."""
        return self.words or self.shown or format_number(self.value)

    def bounds(self):
        """The interval as text, "" where there is none."""
        return format_interval(self.interval)


@dataclasses.dataclass
class Row:
    """A row: its heading, its cells, and the group of rows that it belongs to ("" for none)."""

    heading: Heading
    cells: list[Cell]
    group: Heading | None = None


@dataclasses.dataclass
class Table:
    """A table that can be written in several formats.

    Attributes:
        corner: heading of the column of row headings.
        columns: headings of the other columns.
        rows: the rows.
        caption: what was evaluated.
        explanation: what the numbers and their marks are.
    """

    corner: str
    columns: list[Heading]
    rows: list[Row]
    caption: str
    explanation: str


def of_evaluation(document):
    """The table of a metrics.json: a row per predictor and a column per metric, or transposed if there are many.

    Args:
        document: the contents of metrics.json.
    """
    names = documents.predictors(document)
    summaries = {name: document[name] for name in names}
    metrics = {metric: heading(metric, summary) for metric, summary in summaries[names[0]].items()}
    winners = {metric: best(summaries, metric, metrics[metric]) for metric in metrics}

    rows = []
    for name in names:
        parts = [summaries[name].get(metric, {}) for metric in metrics]
        cells = [Cell(p.get("mean"), interval(p), name in winners[m]) for m, p in zip(metrics, parts)]
        rows.append(Row(Heading(name), cells))
        samples = max((summary.get("samples", 1) for summary in summaries[name].values()), default=1)
        for which in ("best", "worst") if samples > 1 else ():
            cells = [Cell(p.get(which, {}).get("mean"), interval(p.get(which, {}))) for p in parts]
            rows.append(Row(Heading(f"{name}, {which} of {samples}", minor=True), cells))
    table = Table("predictor", list(metrics.values()), rows, describe(document), _explanation(document))
    return table if len(metrics) <= MOST_COLUMNS else _transposed(table)


def _transposed(table):
    """A table of an evaluation with a row per metric, which also says which protocols report it."""
    users, rows = protocols.used_by(), []
    for i, title in enumerate(table.columns):
        reported = Cell(words=", ".join(users.get(title.name, [])) or "default")
        rows.append(Row(title, [*(row.cells[i] for row in table.rows), reported]))
    return Table(
        "metric", [*(row.heading for row in table.rows), Heading("reported by")], rows, table.caption, table.explanation
    )


def heading(metric, summary):
    """The heading of a metric's row or column, from its name and a summary of it."""
    unit, direction = summary.get("unit", ""), 0
    if metric in registry.names("metric"):
        cls = registry.lookup("metric", metric)
        unit, direction = unit or cls.unit, 1 if cls.higher_is_better else -1
    return Heading(metric, unit, direction, summary.get("broken", ""))


def best(summaries, metric, title):
    """Names of the predictors with the best number; of no one where that means nothing."""
    values = {name: summary[metric]["mean"] for name, summary in summaries.items() if metric in summary}
    values = {name: value for name, value in values.items() if value is not None and value == value}
    if len(values) < 2 or title.broken or not title.direction:
        return []
    extreme = max(values.values(), key=lambda value: title.direction * value)
    return [name for name, value in values.items() if value == extreme]


def interval(summary):
    """The 95 % interval of a summary's mean, (low, high), or None."""
    pair = summary.get("interval")
    if pair and None not in pair:  # in JSON, numbers that are not finite are null
        return tuple(pair)
    mean, half = summary.get("mean"), summary.get("ci95")
    return None if mean is None or half is None else (mean - half, mean + half)


def describe(document):
    """What was evaluated and how, in a sentence or two."""
    protocol = document.get("protocol", {})
    data = document.get("data", {}).get("name") or document.get("run", {}).get("data") or protocol.get("dataset")
    parts = [f"Protocol {protocol.get('name', '?')}"]
    if data:
        parts.append(f"data set {data}")
    if protocol.get("split"):
        parts.append(f"{protocol['split']} split")
    context, frames = protocol.get("context"), protocol.get("seq_len")
    if protocol.get("mode") == "teacher_forced":
        parts.append(f"teacher-forced: each of {frames} frames predicted from the true ones before it")
    elif frames:
        parts.append(f"open-loop: {context} frames observed, {frames - context} predicted")
    if protocol.get("clips"):
        parts.append(f"{protocol['clips']} clips")
    if protocol.get("samples", 1) > 1:
        parts.append(f"{protocol['samples']} samples per clip")
    changes = modifications(document)
    return ", ".join(parts) + "." + (f" Modified: {'; '.join(changes)}." if changes else "")


def modifications(document):
    """How the evaluation differs from the protocol whose name it carries, a phrase each."""
    return [
        f"{field} {_plain(change.get('used'))} instead of {_plain(change.get('protocol'))}"
        for field, change in (document.get("modified") or {}).items()
    ]


def _plain(value):
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def _explanation(document):
    samples = document.get("protocol", {}).get("samples", 1)
    means = "Means over clips" + (", samples" if samples > 1 else "") + " and frames"
    summaries = (summary for name in documents.predictors(document) for summary in document[name].values())
    films = next((f", by their {s['sources']} films" for s in summaries if s.get("sources")), "")
    return f"{means}, with 95 % intervals of the mean over clips{films} in brackets. The best numbers are bold."


def format_number(value):
    """`value` with four significant digits, or a dash for None."""
    if value is None:
        return "-"
    return f"{value:#.4g}".rstrip(".") if abs(value) < 1000 else f"{value:.1f}"


def format_interval(pair):
    """`[low, high]`, or "" for None."""
    return f"[{format_number(pair[0])}, {format_number(pair[1])}]" if pair else ""


def _plus_minus(cell):
    """The number with half the width of its interval, in the number's last digits."""
    text = cell.number()
    if not cell.interval:
        return text
    half = (cell.interval[1] - cell.interval[0]) / 2
    mantissa, _, exponent = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    scaled = half / 10 ** int(exponent or 0)
    tail = f"e{exponent}" if exponent else ""
    return f"{mantissa}{tail} ± {scaled:.{digits}f}{tail}"


def text(table):
    """A table as plain text, for a terminal.

    A number stands with half the width of its interval, and the best one is marked with an asterisk.
    """
    marked = any(cell.best for row in table.rows for cell in row.cells)

    def show(cell):
        return _plus_minus(cell) + (BEST if cell.best else " " if marked and not cell.words else "")

    grouped = any(row.group for row in table.rows)
    lines = [[*(["", table.corner] if grouped else [""]), *(column.plain() for column in table.columns)]]
    last = None
    for row in table.rows:
        group = row.group.plain() if row.group and row.group is not last else ""
        last = row.group
        title = ("  " if row.heading.minor else "") + row.heading.plain()
        lines.append([*([group] if grouped else []), title, *map(show, row.cells)])
    left = 2 if grouped else 1
    words = {left + i for row in table.rows for i, cell in enumerate(row.cells) if cell.words}
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [
        "  ".join(c.ljust(w) if i < left or i in words else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
        for line in lines
    ]
    lines = [line.rstrip() for line in lines]
    rule = "-" * max(map(len, lines))
    footer = [f"± half the width of the 95 % interval{f'; {BEST} best' if marked else ''}"]
    intervals = any(cell.interval for row in table.rows for cell in row.cells)
    return "\n".join([lines[0], rule, *lines[1:], *(footer if intervals else [])])


def markdown(table):
    """A table in Markdown (GitHub's dialect): the best numbers are bold, intervals stand in brackets."""

    def escape(words):
        return re.sub(r"([\\|*_`<\[\]])", r"\\\1", words)

    def show(cell):
        if cell.words:
            return escape(cell.words)
        number = f"**{cell.number()}**" if cell.best else cell.number()
        return f"{number} {escape(cell.bounds())}".rstrip()

    titles = [table.corner, *(column.with_arrow() for column in table.columns)]
    lines = [f"| {' | '.join(map(escape, titles))} |", f"|---|{'---:|' * len(table.columns)}"]
    for row in table.rows:
        title = (f"{row.group.with_arrow()}: " if row.group else "") + row.heading.with_arrow()
        lines.append(f"| {' | '.join([escape(title), *map(show, row.cells)])} |")
    return "\n".join([*lines, "", escape(f"{table.caption} {table.explanation}"), ""])


def latex(table):
    r"""A table in LaTeX with the rules of the package booktabs: the best numbers are bold."""
    replacements = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    replacements |= {c: f"\\{c}" for c in "&%$#_{}"} | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"}
    replacements |= {"<": r"$<$", ">": r"$>$"}

    def escape(words):
        return "".join(replacements.get(character, character) for character in words)

    def show(cell):
        number = escape(cell.number())
        number = "--" if number == "-" else f"\\textbf{{{number}}}" if cell.best else number
        return number + (f" {{\\scriptsize {cell.bounds()}}}" if cell.interval else "")

    columns = "".join("l" if _words(table, i) else "r" for i in range(len(table.columns)))
    titles = [table.corner, *(column.with_arrow() for column in table.columns)]
    lines = [" & ".join(map(escape, titles)) + r" \\", r"\midrule"]
    last = None
    for row in table.rows:
        if row.group and row.group is not last:
            lines += [r"\addlinespace"] if last else []
            lines.append(f"\\multicolumn{{{len(titles)}}}{{l}}{{{escape(row.group.with_arrow())}}} \\\\")
        last = row.group
        title = (r"\quad " if row.heading.minor or row.group else "") + escape(row.heading.with_arrow())
        lines.append(" & ".join([title, *map(show, row.cells)]) + r" \\")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{escape(table.caption)} {escape(table.explanation)}}}",
            f"\\begin{{tabular}}{{l{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _words(table, column):
    return any(row.cells[column].words for row in table.rows)
