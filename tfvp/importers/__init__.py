"""Published checkpoints of other frameworks, turned into runs; one file per model."""

import json
import pathlib

from tfvp import files
from tfvp.errors import UserError
from tfvp.run import Run, save_weights


def write_run(model, config, logdir, source):
    """Makes the run of an imported model.

    Args:
        model: a built `tfvp.models.base.VideoModel` with the imported weights.
        config: its `tfvp.config.Config`.
        logdir: folder of runs.
        source: the file that was imported, or the prefix of several; status.json names them with their SHA-256.

    Returns:
        The `tfvp.run.Run`.

    Raises:
        UserError: a run of another configuration or with other weights is in the way.
    """
    imported, path = _checksums(pathlib.Path(source)), pathlib.Path(logdir) / config.name / "model"
    if any(path.glob("*.weights.h5")) and sorted(_imported(path).values()) != sorted(imported.values()):
        raise UserError(
            f"{path.parent} has weights that are not those of {source}; give the new run a --name of its own, or"
            " another --logdir"
        )
    files.writable_folder(logdir)
    run = Run.start(logdir, config)
    # First, so that an import that is interrupted can be repeated.
    files.write_json(run.folder("model") / "status.json", {"imported": imported})
    for which in ("best", "last"):
        save_weights(model, run.folder("model") / f"{which}.weights.h5")
    return run


def _imported(folder):
    """{file: SHA-256} that status.json says were imported; {} where nothing was."""
    try:
        return dict(json.loads((folder / "status.json").read_text(encoding="utf-8"))["imported"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _checksums(source):
    several = (part for part in source.parent.iterdir() if part.name.startswith(f"{source.name}."))
    parts = [source] if source.is_file() else sorted(several)
    return {part.name: files.sha256(part) for part in parts}
