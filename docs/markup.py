"""Text as Markdown, for the generated pages."""

import re


def paragraphs(doc):
    """The paragraphs of a description, each as one line of Markdown."""
    return [prose(" ".join(paragraph.split())) for paragraph in re.split(r"\n\s*\n", doc.strip())]


def prose(text):
    """Text in which only backticks mean something to Markdown; addresses and arXiv numbers become links."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text):
    text = re.sub(r"\\|\*|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text.replace("<", "&lt;"))
    text = re.sub(r"https?://[^\s,;]*[\w/]", r"<\g<0>>", text)
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def cell(text):
    """Text for a cell of a table, as Markdown."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(header, rows):
    """A Markdown table; columns that are empty in every row are left out."""
    kept = [i for i, _ in enumerate(header) if any(str(row[i]) for row in rows)]
    lines = [[header[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in rows)]
    return "".join("| " + " | ".join(cell(value) for value in line) + " |\n" for line in lines) + "\n"


def value_of(default):
    """A default value as YAML would write it."""
    if isinstance(default, bool) or default is None:
        return {True: "true", False: "false", None: "null"}[default]
    if isinstance(default, str):
        return default or '""'
    if isinstance(default, (list, tuple)):
        return f"[{', '.join(value_of(item) for item in default)}]"
    return repr(default)


def anchor(text):
    """The anchor that Python-Markdown gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())
