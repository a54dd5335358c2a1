"""Exact resume: everything that the next epoch depends on, in one file per finished epoch."""

import json
import pathlib
import zipfile

import numpy as np
import tensorflow as tf

from tfvp import compat, files
from tfvp.errors import UserError

KEPT = 2


class Backup:
    """Saves a training run at the end of an epoch, and restores it.

    The order of the data, the sampling seeds and the learning rate are functions of the epoch and
    of the optimizer's counter, so the variables saved here determine how the run continues.

    Args:
        folder: where the files go: epoch-<n>.npz, the newest two.
        model: a compiled model.
        average: its `WeightAverage`, or None.
        writes: whether `save` writes files. In a cluster only the chief worker does.
    """

    def __init__(self, folder, model, average=None, writes=True):
        self.folder = pathlib.Path(folder)
        self.writes = writes
        self.groups = {
            "model": [compat.backing_variable(v) for v in model.variables],
            "optimizer": [
                compat.backing_variable(v)
                for optimizer in model.optimizers
                for v in compat.optimizer_variables(optimizer)
            ],
            "average": average.variables if average is not None else [],
        }

    def save(self, epoch, state):
        """Writes the backup after `epoch` epochs, with `state` (plain JSON types) in it."""
        arrays = {
            f"{group}/{i}": np.asarray(tf.convert_to_tensor(variable))
            for group, variables in self.groups.items()
            for i, variable in enumerate(variables)
        }
        if not self.writes:  # reading was still needed: some variables are means over all workers
            return
        state = json.dumps({"epoch": epoch, **state})
        with files.atomic_write(self.folder / f"epoch-{epoch:06d}.npz") as temporary:
            np.savez(temporary, state=np.frombuffer(state.encode(), np.uint8), **arrays)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def restore(self):
        """Loads the newest backup that can be read.

        Returns:
            (state or None, list of sentences about backups that could not be used).

        Raises:
            UserError: there are backups, but none can be read.
        """
        notes = []
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
            return state, notes
        if notes:
            raise UserError(
                f"no backup in {self.folder} can be read; delete the folder to start again. {' '.join(notes)}"
            )
        return None, notes

    def _assign(self, arrays):
        expected = {f"{group}/{i}": v for group, variables in self.groups.items() for i, v in enumerate(variables)}
        if set(expected) != set(arrays):
            raise ValueError(f"it holds {len(arrays)} arrays, not {len(expected)}")
        for key, variable in expected.items():
            if tuple(variable.shape) != arrays[key].shape:
                raise ValueError(f"array {key} has shape {arrays[key].shape}, not {tuple(variable.shape)}")
        for key, variable in expected.items():
            variable.assign(tf.cast(arrays[key], variable.dtype))

    def _files(self):
        """The backups, newest first."""
        return sorted(self.folder.glob("epoch-*.npz"), reverse=True)
