"""What differs between two configurations, and what of it a run may take when it is resumed."""

from tfvp.config import Config

# Options that may change between the sessions of a run; see `resumable`.
FREE_TO_CHANGE = (
    "data.root",
    "data.cache",
    "data.flow",
    "data.max_damaged",
    "train.devices",
    "train.xla",
    "train.recompute",
    "train.steps_per_execution",
    "train.nonfinite_patience",
    "train.gif_examples",
    "train.sample_steps",
    "train.sample_minutes",
    "train.log_steps",
    "train.log_minutes",
    "train.loggers",
    "train.backup_minutes",
    "train.keep_checkpoints",
    "train.checkpoint_minutes",
    "train.profile",
    "train.deterministic",
    "train.memory_growth",
)


def differences(old: Config, new: Config) -> list[str]:
    """Lines "key: old -> new" for every option in which two configurations differ."""
    before, after = _flatten(old.to_dict()), _flatten(new.to_dict())
    missing = "(absent)"
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key}: {before.get(key, missing)!r} -> {after.get(key, missing)!r}"
        for key in keys
        if before.get(key, missing) != after.get(key, missing)
    ]


def resumable(old: Config, new: Config, batch_norm: bool = True) -> tuple[list[str], list[str]]:
    """What a run of one configuration may not, and may, change when it is resumed with another.

    Where files lie, how many devices share a batch, how often something is written and what is
    evaluated later do not change what is learned; nor do more epochs, under schedules that do not
    depend on their number, nor, without batch norm, the micro-batches that a batch is cut into.

    Args:
        old: of the run.
        new: of the session that resumes it.
        batch_norm: whether the model has batch norm.

    Returns:
        (forbidden, allowed) lines of `differences`, with the reason where it is not plain.
    """
    free = set(FREE_TO_CHANGE)
    if not batch_norm:
        free.add("train.accumulate")
    if new.train.epochs > old.train.epochs and old.train.schedule in ("constant", "plateau"):
        free.add("train.epochs")
    forbidden, allowed = [], []
    for line in differences(old, new):
        key = line.partition(":")[0]
        same_pixels = key == "data.storage" and "jpeg" not in line
        if key == "train.accumulate" and batch_norm:
            line += " (the model has batch norm, which sees one micro-batch at a time)"
        later = key.startswith("eval.") and key != "eval.open_loop_ctx"  # validation observes as many frames
        (allowed if key in free or same_pixels or later else forbidden).append(line)
    return forbidden, allowed


def _flatten(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
