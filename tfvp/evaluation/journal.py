"""The scores of finished batches on disk, so that an evaluation that was stopped need not begin again."""

import contextlib
import json
import pathlib
import shutil

import numpy as np

from tfvp import files, locks


class Journal:
    """The folder `partial` of an evaluation: one file per finished batch.

    Parts are kept only as long as `identity` stays the same: everything that the scores depend on.

    Args:
        folder: of the evaluation; it is created here.
        identity: plain JSON types.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder, identity):
        self.parent = files.writable_folder(folder)
        self.folder = self.parent / "partial"
        self.identity = json.loads(json.dumps(identity))

    @contextlib.contextmanager
    def opened(self):
        """Context manager: no other process evaluates into the folder meanwhile; parts of another identity are gone.

        Raises:
            UserError: another process does.
        """
        sentence = f"another process is evaluating into {self.parent}; wait for it, or give this one a --tag"
        with locks.locked(self.parent, sentence):
            path = self.folder / "identity.json"
            try:
                same = json.loads(path.read_text(encoding="utf-8")) == self.identity
            except (OSError, ValueError):
                same = False
            if not same:
                self.clear()
                files.write_json(path, self.identity)
            yield self

    def done(self):
        """The numbers of the batches that are finished, in order."""
        return sorted(int(path.stem.split("-")[1]) for path in self.folder.glob("batch-*.npz"))

    def read(self, number):
        """The part {name: array} of a batch; see `write`."""
        with np.load(self._path(number), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def write(self, number, part):
        """Keeps the part {name: array} of batch `number`."""
        with files.atomic_write(self._path(number)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **part)

    def clear(self):
        """Removes all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number) -> pathlib.Path:
        return self.folder / f"batch-{number:06d}.npz"
