"""The page of the trained models that come with tfvp."""

import pathlib

from markup import anchor, prose, table

from tfvp import catalogue
from tfvp.zoo import shelf


def trained_page(folder):
    """The page, with pictures and the introduction from the folder of the documentation."""
    text = (folder / "trained.in").read_text(encoding="utf-8").rstrip() + "\n\n"
    shipped = [entry for entry in catalogue.trained() if pathlib.Path(entry["path"]).parent == shelf.SHIPPED]
    rows = []
    for entry in shipped:
        evaluation, scores = entry["evaluation"], entry["evaluation"]["scores"]["model"]
        predicted = f"{evaluation['context']} and {evaluation['seq_len'] - evaluation['context']}"
        means = [
            f"{scores[key]['mean']:.3g}" if scores.get(key, {}).get("mean") is not None else ""
            for key in ("psnr", "ssim", "lpips")
        ]
        link = f"[`{entry['name']}`](#{anchor(entry['name'])})"
        rows.append((link, f"{entry['parameters']:,}", f"{entry['weights']['bytes'] / 1e6:.1f}", predicted, *means))
    text += table(("name", "parameters", "MB", "observed and predicted", "PSNR", "SSIM", "LPIPS"), rows)
    for entry in shipped:
        text += card_section(entry, folder)
    return text.rstrip() + "\n"


def card_section(entry, folder):
    """The section of one trained model: its picture, scores and facts."""
    training, evaluation, weights = entry["training"], entry["evaluation"], entry["weights"]
    text = f"## {entry['name']}\n\n{prose(entry['title'])}.\n\n"
    picture = f"trained/{entry['name']}.gif"
    if (folder / picture).is_file():
        text += f'<img src="{picture}" width="264" alt="truth and prediction of {entry["name"]}">\n\n'
    curves = f"trained/{entry['name']}.png"
    if (folder / curves).is_file():
        text += f"![learning curves of {entry['name']}]({curves})\n\n"
    rows = [
        (predictor, *(score_of(scores.get(metric)) for metric in evaluation["scores"]["model"]))
        for predictor, scores in evaluation["scores"].items()
    ]
    text += table(("predictor", *evaluation["scores"]["model"]), rows)
    samples = f", {evaluation['samples']} futures each" if evaluation["samples"] > 1 else ""
    text += (
        f"Protocol `{evaluation['name']}`: {evaluation['context']} frames observed,"
        f" {evaluation['seq_len'] - evaluation['context']} predicted, {evaluation['clips']} clips of the"
        f" {evaluation['split']} split{samples}; ± is half of the 95 % interval."
        f" `{evaluation['command']}` repeats it.\n\n"
    )
    facts = [
        (
            "Model, data set",
            f"[`{entry['model']}`](models.md#{anchor(entry['model'])}), "
            f"[`{entry['data']}`](datasets.md#{anchor(entry['data'])})",
        ),
        ("Trained", training if isinstance(training, str) else sentence_on(training)),
        ("Source", source_of(entry)),
        (
            "Weights",
            f"{entry['parameters']:,} parameters, {weights['bytes'] / 1e6:.1f} MB of {weights['dtype']}, SHA-256"
            f" `{weights['sha256'][:16]}...`",
        ),
        ("Limits", prose(entry["limits"])),
        ("Licences", prose(f"weights {entry['licence']['weights']}; data {entry['licence']['data']}")),
    ]
    return text + "".join(f"- **{key}:** {value}\n" for key, value in facts if value) + "\n"


def score_of(score):
    """The mean and half of its interval; metrics of all clips together have none, and some predictors no metric."""
    if score is None or score["mean"] is None:
        return "" if score is None else "-"
    return f"{score['mean']:.4g}" + (f" ± {score['ci95']:.2g}" if score["ci95"] is not None else "")


def sentence_on(training):
    """How a model was trained, in words."""
    commit = f" at commit {training['commit']}" if training["commit"] else ""
    return (
        f"{training['steps']:,} steps of {training['clips a step']} clips of {training['frames a clip']} frames,"
        f" {training['hours']:g} hours of training steps on {training['hardware']}, TensorFlow"
        f" {training['versions']['tensorflow']}{commit}: `{training['command']}`"
    )


def source_of(entry):
    """Where weights come from that were not trained here, with the SHA-256 of what was imported; else ""."""
    source = entry.get("source", {"from": "", "files": {}})
    files = (f"`{name}` of SHA-256 `{digest}`" for name, digest in source["files"].items())
    return "; ".join(filter(None, (prose(source["from"]), *files)))
