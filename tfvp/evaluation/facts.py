"""What a reader must know before the numbers: where they come from, and what is wrong with them."""

from tfvp.evaluation import documents, tables

HASH = 12  # characters that a hash is shortened to


def mode(document):
    """The mode of an evaluation, as the beginning of a title."""
    teacher_forced = document.get("protocol", {}).get("mode") == "teacher_forced"
    return "Teacher-forced" if teacher_forced else "Open-loop"


def model(document):
    """What was evaluated, with its data: "svg on stochastic_mnist"."""
    run, data = document.get("run") or {}, document.get("data") or {}
    name = run.get("model") or documents.predictors(document)[0]
    return f"{name} on {data['name']}" if data.get("name") else f"{name} on {run['data']}" if run.get("data") else name


def of_evaluation(document):
    """[(name, value)] of the head of an evaluation's page; what the document does not say is left out."""
    run = document.get("run") or {}
    entries = [*_protocol(document), *_data(document)]
    entries.append(("Model", _join(run.get("model"), _millions(run.get("parameters")))))
    entries.append(("Weights", weights(run)))
    entries.append(("Predictions", _predictions(run)))
    entries.append(("Precision", _precision(run)))
    entries.append(("Device", run.get("device") or ", ".join(run.get("devices") or [])))
    entries.append(("Code", _join(f"commit {run['commit']}" if run.get("commit") else "", _versions(run))))
    entries.append(("Date", _date(run.get("started"))))
    return [(name, value) for name, value in entries if value]


def of_comparison(document):
    """[(name, value)] of the head of a comparison's page."""
    entries = [*_protocol(document), *_data(document)]
    for name, entry in document.get("runs", {}).items():
        run = entry.get("run") or {}
        entries.append(
            (name, _join(run.get("model"), _millions(run.get("parameters")), weights(run), entry.get("path")))
        )
    return [(name, value) for name, value in entries if value]


def _protocol(document):
    protocol = document.get("protocol") or {}
    changed = "modified" if document.get("modified") else ""
    return [("Protocol", _join(protocol.get("name"), changed, document.get("tag"))), ("Source", protocol.get("source"))]


def _data(document):
    protocol, data = document.get("protocol") or {}, document.get("data") or {}
    size = data.get("image_size")
    shape = "×".join(map(str, size)) if isinstance(size, (list, tuple)) else f"{size}×{size}" if size else ""
    channels = {1: "grey", 3: "RGB"}.get(data.get("channels"), "")
    name = data.get("name") or (document.get("run") or {}).get("data") or protocol.get("dataset")
    digest = f"list {data['clips_sha256'][:HASH]}" if data.get("clips_sha256") else ""
    count = f"{protocol['clips']} of the {protocol.get('split', '')} split" if protocol.get("clips") else ""
    return [("Data", _join(name, shape, channels)), ("Clips", _join(count, digest))]


def weights(run):
    """The weights of a run in words: "best, epoch 40, SHA-256 ab12..."."""
    epoch = f"epoch {run['epoch']}" if run.get("epoch") is not None else ""
    digest = f"SHA-256 {run['weights_sha256'][:HASH]}" if run.get("weights_sha256") else ""
    return _join(run.get("weights"), epoch, digest)


def _predictions(run):
    """The files that predictions were read from, where they were."""
    digest = f"SHA-256 {run['predictions_sha256'][:HASH]}" if run.get("predictions_sha256") else ""
    return _join(run.get("predictions"), digest)


def _precision(run):
    if not run.get("precision"):
        return ""
    tf32 = f"TF32 {'on' if run['tf32'] else 'off'}" if isinstance(run.get("tf32"), bool) else ""
    return _join(run["precision"], tf32)


def _versions(run):
    versions = run.get("versions") or {}
    return _join(*(f"{name} {versions[name]}" for name in ("tfvp", "tensorflow", "keras") if versions.get(name)))


def _date(stamp):
    """ISO 8601 as people write it: day, minute, zone."""
    day, _, rest = (stamp or "").partition("T")
    return f"{day} {rest[:5]} {rest[8:]}".strip()


def _millions(count):
    if not count:
        return ""
    return f"{count / 1e6:.2f} M parameters" if count >= 1e6 else f"{count:,} parameters"


def _join(*parts):
    return ", ".join(str(part) for part in parts if part)


def warnings(document):
    """Sentences that a reader of the numbers must see: deviations from the protocol, notes, and metrics' warnings."""
    sentences = [f"Modified protocol: {change}." for change in tables.modifications(document)]
    sentences += document.get("notes") or []
    sentences += (document.get("data") or {}).get("notes") or []
    names = documents.predictors(document)
    for metric, summary in document[names[0]].items():
        if summary.get("broken"):
            sentences.append(f"{metric} is a broken convention: {summary['broken']}")
        if summary.get("note"):
            sentences.append(summary["note"])
        elif summary.get("floor") and summary.get("extrapolated"):
            floor, limit = summary["floor"], summary["extrapolated"]
            sentences.append(
                f"{metric}: two halves of the truth, {floor['clips']} clips each, are {floor['mean']:.4g} apart;"
                f" extrapolated to infinitely many clips, {names[0]}'s is {limit['mean']:.4g}."
            )
    return list(dict.fromkeys(sentences))
