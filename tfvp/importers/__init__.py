"""Published checkpoints of other frameworks, turned into runs; one file per model."""

import pathlib

from tfvp import files
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
        UserError: a run of another configuration is in the way.
    """
    files.writable_folder(logdir)
    run = Run.start(logdir, config)
    for which in ("best", "last"):
        save_weights(model, run.folder("model") / f"{which}.weights.h5")
    files.write_json(run.path / "model" / "status.json", {"imported": _checksums(pathlib.Path(source))})
    return run


def _checksums(source):
    several = (part for part in source.parent.iterdir() if part.name.startswith(f"{source.name}."))
    parts = [source] if source.is_file() else sorted(several)
    return {part.name: files.sha256(part) for part in parts}
