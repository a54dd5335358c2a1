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
    "train.log_steps",
    "train.loggers",
    "train.backup_minutes",
    "train.keep_checkpoints",
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


def resumable(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """What a run of one configuration may not, and may, change when it is resumed with another.

    Where files lie, how many devices share a batch, how it is cut, how often something is written
    and what is evaluated later do not change what is learned; nor do more epochs, under schedules
    that do not depend on their number.

    Returns:
        (forbidden, allowed) lines of `differences`.
    """
    free = set(FREE_TO_CHANGE)
    if new.train.epochs > old.train.epochs and old.train.schedule in ("constant", "plateau"):
        free.add("train.epochs")
    forbidden, allowed = [], []
    for line in differences(old, new):
        key = line.partition(":")[0]
        same_pixels = key == "data.storage" and "jpeg" not in line
        later = key.startswith("eval.") and key != "eval.open_loop_ctx"  # validation observes as many frames
        (allowed if key in free or same_pixels or later else forbidden).append(line)
    return forbidden, allowed


def _flatten(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
