"""The numbers of an evaluation as tables."""

from tfvp.evaluation.documents import predictors
from tfvp.metrics import protocols

MOST_COLUMNS = 10


def text(document, best=True):
    """The numbers of a report as text: a row per predictor and a column per metric, or transposed if there are many."""
    names = predictors(document)
    if len(document[names[0]]) > MOST_COLUMNS:
        return _long_table(document, names)
    metrics = list(document[names[0]])
    rows = [["", *(m + (" (broken)" if document[names[0]][m].get("broken") else "") for m in metrics)]]
    for name in names:
        rows.append([name, *(format_number(document[name].get(m, {}).get("mean")) for m in metrics)])
        samples = max(summary.get("samples", 1) for summary in document[name].values())
        for which in ("best", "worst") if best and samples > 1 else ():
            values = [document[name][m].get(which, {}).get("mean") for m in metrics]
            rows.append([f"{name}, {which} of {samples}", *map(format_number, values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _long_table(document, names):
    """One row per metric, with the protocols that report it."""
    users = protocols.used_by()
    rows = [["", *names, "reported by"]]
    for metric, summary in document[names[0]].items():
        numbers = [format_number(document[name].get(metric, {}).get("mean")) for name in names]
        label = metric + (" (broken)" if summary.get("broken") else "")
        rows.append([label, *numbers, ", ".join(users.get(metric, [])) or "default"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = [
        "  ".join(c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def format_number(value):
    """`value` with four significant digits, or a dash for None."""
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
