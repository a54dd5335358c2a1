"""What stands in the files of an evaluation.

metrics.json (format 2) holds, beside one entry per predictor ({metric: summary}):

    format      2
    protocol    the protocol as it was used, and "clips", their number
    modified    {field: {"protocol": value, "used": value}} where it is not the protocol as named
    tag         of --tag, or ""
    data        the section `data` of the configuration as it was used, the split, and what identifies the clips
    networks    [{"name", "file", "sha256"}] of the networks that metrics compare with
    run         the model: its weights, their epoch and SHA-256; device, precision, versions and commit
    notes       sentences
"""

FORMAT = 2
RESERVED = ("format", "protocol", "modified", "tag", "data", "networks", "run", "notes")


def predictors(document: dict) -> list[str]:
    """The names of the predictors that a metrics.json has numbers of, in order; the first is the model."""
    return [name for name in document if name not in RESERVED]
