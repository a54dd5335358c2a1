"""Where training logs go besides metrics.jsonl: TensorBoard, a file of every reading, W&B, MLflow."""

import importlib
import json

import tensorflow as tf

from tfvp.errors import UserError


class Logger:
    """One destination.

    An author writes a subclass and enters it in `LOGGERS`.

    Args:
        run: the `tfvp.run.Run`.
    """

    def __init__(self, run):
        self.run = run

    def scalars(self, step, values):
        """Takes {name: float} after `step` steps."""

    def gif(self, step, tag, path, height, width):
        """Takes a GIF that was drawn from rollouts after `step` steps."""

    def close(self):
        """Ends the session."""


class TensorBoard(Logger):
    """Event files in <run>/tensorboard, by step."""

    def __init__(self, run):
        super().__init__(run)
        self.writer = tf.summary.create_file_writer(str(run.folder("tensorboard")))

    def scalars(self, step, values):
        with self.writer.as_default(step=step):
            for key, value in values.items():
                tf.summary.scalar(key.replace("_", "/", 1) if key.startswith(("val_", "train_")) else key, value)
        self.writer.flush()

    def gif(self, step, tag, path, height, width):
        image = tf.compat.v1.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, image=image)])
        with self.writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)

    def close(self):
        self.writer.close()


class JSONLines(Logger):
    """<run>/steps.jsonl, a line per reading: {"step": ..., name: value}; values that are not finite are null."""

    def scalars(self, step, values):
        clean = {key: value if value - value == 0 else None for key, value in values.items()}
        with open(self.run.path / "steps.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **clean}) + "\n")


class WandB(Logger):
    """Weights & Biases: project "tfvp", the run's name and configuration; WANDB_* variables apply."""

    def __init__(self, run):
        super().__init__(run)
        self.session = _optional("wandb").init(
            project="tfvp", name=run.path.name, dir=str(run.path), config=run.config.to_dict(), resume="allow"
        )

    def scalars(self, step, values):
        self.session.log(values, step=step)

    def close(self):
        self.session.finish()


class MLflow(Logger):
    """MLflow: experiment "tfvp", the run's name and configuration; MLFLOW_TRACKING_URI applies."""

    def __init__(self, run):
        super().__init__(run)
        self.mlflow = _optional("mlflow")
        self.mlflow.set_experiment("tfvp")
        self.mlflow.start_run(run_name=run.path.name)
        sections = {k: v for k, v in run.config.to_dict().items() if isinstance(v, dict)}
        self.mlflow.log_params({f"{name}.{key}": v for name, section in sections.items() for key, v in section.items()})

    def scalars(self, step, values):
        self.mlflow.log_metrics(values, step=step)

    def close(self):
        self.mlflow.end_run()


LOGGERS = {"tensorboard": TensorBoard, "jsonl": JSONLines, "wandb": WandB, "mlflow": MLflow}


def check(names):
    """Checks the names in `train.loggers`, and that their packages are installed.

    Raises:
        UserError: one is unknown, or its package is missing.
    """
    unknown = [name for name in names if name not in LOGGERS]
    if unknown:
        raise UserError(f"train.loggers: unknown logger {unknown[0]!r}; known: {', '.join(LOGGERS)}")
    for name in names:
        if name in ("wandb", "mlflow"):
            _optional(name)


def make(names, run):
    """The loggers called `names`."""
    return [LOGGERS[name](run) for name in names]


def _optional(package):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"train.loggers names {package}, which is not installed ({error}); pip install {package}"
        ) from None
