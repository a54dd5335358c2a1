"""Exact resume: everything that the next step depends on, in one file."""

import json
import pathlib
import threading
import zipfile

import numpy as np
import tensorflow as tf

from tfvp import compat, files
from tfvp.errors import UserError

KEPT = 2


def backups(folder):
    """The backups in a folder, newest first; those of 0.1 are called epoch-<n>.npz."""
    return sorted([*folder.glob("step-*.npz"), *folder.glob("epoch-*.npz")], reverse=True)


class Backup:
    """Saves a training run at any step, and restores it.

    The order of the data, the sampling seeds and scheduled learning rates are functions of the
    step, so the variables and the state saved here determine how the run continues. `save` copies
    the variables and returns; a thread writes the copy.

    Args:
        folder: where the files go: step-<n>.npz, the newest two.
        model: a compiled model.
        average: its `WeightAverage`, or None.
        writes: whether `save` writes files. In a cluster only the chief worker does.
    """

    def __init__(self, folder, model, average=None, writes=True):
        self.folder = pathlib.Path(folder)
        self.writes = writes
        self.optimizers = model.optimizers
        self.groups = {
            "model": [compat.backing_variable(v) for v in model.variables],
            "optimizer": [
                compat.backing_variable(v)
                for optimizer in self.optimizers
                for v in compat.optimizer_variables(optimizer)
            ],
            "average": average.variables if average is not None else [],
            "means": [compat.backing_variable(v) for metric in model.metrics for v in metric.variables],
        }
        self.writer, self.failure = None, None

    def save(self, step, state):
        """Writes a backup after `step` steps, with `state` (plain JSON types) in it.

        Raises:
            UserError: the backup before this one could not be written.
        """
        arrays = {
            f"{group}/{i}": np.array(tf.convert_to_tensor(variable))
            for group, variables in self.groups.items()
            for i, variable in enumerate(variables)
        }
        rates = [compat.plain_learning_rate(optimizer) for optimizer in self.optimizers]
        self.wait()
        if not self.writes:  # reading was still needed: some variables are means over all workers
            return
        state = json.dumps({"step": step, "rates": rates, **state})
        arrays["state"] = np.frombuffer(state.encode(), np.uint8)
        # Not a daemon: an interpreter that ends waits for the file.
        self.writer = threading.Thread(target=self._write, args=(self.folder / f"step-{step:09d}.npz", arrays))
        self.writer.start()

    def wait(self):
        """Waits until the last backup is written.

        Raises:
            UserError: it could not be written.
        """
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise UserError(f"no backup can be written to {self.folder} ({failure}); free space there and run it again")

    def _write(self, path, arrays):
        try:
            with files.atomic_write(path) as temporary:
                np.savez(temporary, **arrays)
            for old in self._files()[KEPT:]:
                old.unlink(missing_ok=True)
        except (OSError, UserError) as error:
            self.failure = error

    def restore(self):
        """Loads the newest backup that can be read, and removes what killed sessions left half-written.

        Returns:
            (state or None, list of sentences about backups that could not be used).

        Raises:
            UserError: there are backups, but none can be read.
        """
        notes = []
        if self.writes:
            files.remove_leftovers(self.folder)
        for path in self._files():
            try:
                with np.load(path, allow_pickle=False) as archive:
                    arrays = {key: archive[key] for key in archive.files}
                state = json.loads(arrays.pop("state").tobytes())
                self._assign(arrays)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                notes.append(
                    f"{path} cannot be used ({' '.join(str(error).split())}); falling back to the one before it"
                )
                continue
            for optimizer, rate in zip(self.optimizers, state.get("rates", [])):
                if rate is not None:
                    optimizer.learning_rate = rate
            return state, notes
        if notes:
            raise UserError(
                f"no backup in {self.folder} can be read; delete the folder to start again. {' '.join(notes)}"
            )
        return None, notes

    def _assign(self, arrays):
        expected = {f"{group}/{i}": v for group, variables in self.groups.items() for i, v in enumerate(variables)}
        if not any(key.startswith("means/") for key in arrays):  # written by 0.1, between two epochs
            expected = {key: variable for key, variable in expected.items() if not key.startswith("means/")}
        if set(expected) != set(arrays):
            raise ValueError(f"it holds {len(arrays)} arrays, not {len(expected)}")
        for key, variable in expected.items():
            if tuple(variable.shape) != arrays[key].shape:
                raise ValueError(f"array {key} has shape {arrays[key].shape}, not {tuple(variable.shape)}")
        for key, variable in expected.items():
            variable.assign(tf.cast(arrays[key], variable.dtype))

    def _files(self):
        return backups(self.folder)
