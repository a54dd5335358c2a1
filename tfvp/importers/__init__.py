"""Published checkpoints of other frameworks, turned into runs; one file per model."""

from tfvp import files
from tfvp.run import Run, save_weights


def write_run(model, config, logdir, source):
    """Makes the run of an imported model.

    Args:
        model: a built `tfvp.models.base.VideoModel` with the imported weights.
        config: its `tfvp.config.Config`.
        logdir: folder of runs.
        source: the file that was imported, for the record.

    Returns:
        The `tfvp.run.Run`.

    Raises:
        UserError: a run of another configuration is in the way.
    """
    files.writable_folder(logdir)
    run = Run.start(logdir, config)
    for which in ("best", "last"):
        save_weights(model, run.folder("model") / f"{which}.weights.h5")
    files.write_json(run.path / "model" / "status.json", {"imported": str(source)})
    return run
