"""Local copies of data sets in object stores.

A copy is made as a whole before anything is read, so that decoding, training and evaluation see an ordinary folder. It
lies in the cache: `data.cache`, else the environment variable TFVP_CACHE, else ~/.cache/tfvp.

    remote/<digest of the URL>/
        url.txt         the URL
        raw/            the files, named as below the URL; may be deleted once they are decoded
        objects.jsonl   size and version of every object that was fetched
        partial/        files on their way, which a restart continues

Objects whose size and version are those of the copy are not fetched again. Others are, and files whose objects are gone
are deleted.
"""

import base64
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import threading
from concurrent import futures

from tqdm import tqdm

from tfvp import files, locks
from tfvp.errors import UserError
from tfvp.pipeline import object_stores, shards

BLOCK = 8 * 2**20  # bytes of one request
THREADS = 8
ROUNDS = 3  # of fetching what changed since the listing before


def cache(folder: str = "") -> pathlib.Path:
    """The folder for copies and decoded frames.

    Args:
        folder: the option `data.cache`; "" = TFVP_CACHE, or ~/.cache/tfvp.

    Raises:
        UserError: it is in an object store.
    """
    chosen = folder or os.environ.get("TFVP_CACHE") or "~/.cache/tfvp"
    if files.is_url(chosen):
        raise UserError(
            f"{'data.cache' if folder else 'TFVP_CACHE'}={chosen} is an object store, and decoded frames are read in"
            " place, from a file system; name a folder of this machine"
        )
    return pathlib.Path(chosen).expanduser()


class Mirror:
    """The local copy of a folder in an object store.

    Args:
        url: of the folder.
        home: the cache.

    Attributes:
        url: of the folder.
        folder: of everything that belongs to the copy.
        raw: the folder that its files are in.
    """

    def __init__(self, url: str, home: pathlib.Path):
        self.url = url.rstrip("/")
        self.folder = home / "remote" / hashlib.sha256(self.url.encode()).hexdigest()[:8]
        self.raw = self.folder / "raw"
        self._is_current = False

    @functools.cached_property
    def _store(self):
        return object_stores.Folder(self.url)

    @functools.cached_property
    def _objects(self):
        """What the store held when it was last asked."""
        return self._store.objects()

    def fetch(self, progress: bool = True) -> pathlib.Path:
        """Brings the copy up to date, once in the life of this object; returns the folder of its files.

        Raises:
            UserError: the store cannot be reached, holds nothing or keeps changing, or the copy does not fit.
        """
        if self._is_current:
            return self.raw
        self._objects  # noqa: B018 - a store that cannot be reached leaves no folder behind
        try:
            self.raw.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write into {self.folder}: {reason}; set data.cache to another folder") from None
        waiting = functools.partial(tqdm.write, f"waiting for another process that fetches {self.url}")
        with locks.locked(self.folder, waiting=waiting):
            (self.folder / "url.txt").write_text(f"{self.url}\n", encoding="utf-8")
            rounds = 0
            while outdated := self._outdated():
                if rounds == ROUNDS:
                    raise UserError(
                        f"{outdated[0]} of {self.url} is not what the store lists, after {ROUNDS} tries; try again when"
                        " nothing changes there"
                    )
                self._announce(outdated)
                self._fetch_all(outdated, progress)
                rounds += 1
                del self._objects  # another look shows what was replaced meanwhile
            self._delete_what_is_gone()
        self._is_current = True
        return self.raw

    def _fetched(self):
        """{name: [size, version]} of the objects that were fetched, the last of each name."""
        result = {}
        with contextlib.suppress(OSError):
            for line in (self.folder / "objects.jsonl").read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, KeyError):  # a killed process may leave half a line
                    entry = json.loads(line)
                    result[entry["name"]] = [entry["size"], entry["version"]]
        return result

    def _outdated(self):
        """Names of the objects that have to be fetched."""
        fetched = self._fetched()
        return [
            name
            for name, entry in self._objects.items()
            if fetched.get(name) != [entry.size, entry.version] or _size(self.raw / name) != entry.size
        ]

    def _announce(self, names):
        total = sum(self._objects[name].size for name in names)
        missing = total - sum(_size(self._partial(name)) or 0 for name in names)
        free = shutil.disk_usage(self.folder).free
        size, room = files.readable_size(missing), files.readable_size(free)
        if missing > free:
            raise UserError(
                f"{size} of {self.url} are to be fetched, and {self.folder} has {room} free; set data.cache to a folder"
                " of a larger disk"
            )
        tqdm.write(
            f"fetching {len(names):,} of {len(self._objects):,} objects of {self.url}, {size}, into {self.raw}, where"
            f" {room} are free"
        )

    def _fetch_all(self, names, progress):
        (self.folder / "partial").mkdir(exist_ok=True)
        total = sum(self._objects[name].size for name in names)
        with (
            tqdm(total=total, desc="fetching", unit="B", unit_scale=True, disable=not progress) as bar,
            open(self.folder / "objects.jsonl", "a", encoding="utf-8") as journal,
            futures.ThreadPoolExecutor(THREADS) as pool,
        ):
            journal.write("\n")  # ends half a line
            work = _Work(bar, journal)
            running = [pool.submit(self._fetch_one, name, work) for name in names]
            try:
                for future in futures.as_completed(running):
                    future.result()
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    "stopped; what was fetched is kept; rerun the same command for the rest"
                ) from None
            except OSError as error:
                reason = error.strerror or error
                raise UserError(
                    f"cannot write into {self.folder} ({reason}); free some space or set data.cache"
                ) from error
            finally:
                work.stopping.set()
                for future in running:
                    future.cancel()
        shutil.rmtree(self.folder / "partial", ignore_errors=True)

    def _partial(self, name):
        entry = self._objects[name]
        key = json.dumps([name, entry.size, entry.version])
        return self.folder / "partial" / hashlib.sha256(key.encode()).hexdigest()[:20]

    def _fetch_one(self, name, work):
        """Fetches an object, unless it has changed since it was listed: the next listing tells."""
        entry, path = self._objects[name], self._partial(name)
        with open(path, "ab") as file:
            work.advance(file.tell())
            while (begin := file.tell()) < entry.size and not work.stopping.is_set():
                try:
                    piece = self._store.read(entry, begin, min(begin + BLOCK, entry.size))
                except FileNotFoundError:
                    piece = b""
                if not piece:
                    break
                file.write(piece)
                work.advance(len(piece))
        if work.stopping.is_set():
            return
        if _size(path) != entry.size or entry.md5 and _md5(path) != entry.md5:
            path.unlink()
            return
        if entry.changed is not None:
            os.utime(path, (entry.changed, entry.changed))
        target = self.raw / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # before the journal speaks of its successor
        work.note({"name": name, "size": entry.size, "version": entry.version})
        os.replace(path, target)

    def _delete_what_is_gone(self):
        fetched = self._fetched()
        gone = [name for name in fetched if name not in self._objects]
        for name in gone:
            (self.raw / name).unlink(missing_ok=True)
        if gone:
            kept = [{"name": n, "size": s, "version": v} for n, (s, v) in fetched.items() if n in self._objects]
            with files.atomic_write(self.folder / "objects.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")

    # What was decoded from it.

    def is_decoded(self, store: shards.Store, options: dict) -> bool:
        """Whether decoded frames are those of the objects as they are now, so that no file is needed.

        Where the object store cannot be asked, this is taken for granted, with a sentence.

        Args:
            store: the frames.
            options: of the data set.
        """
        try:
            mark = json.loads(self._mark(store).read_text(encoding="utf-8"))
            store.manifest  # noqa: B018 - raises where frames are missing
        except (OSError, ValueError, UserError):
            return False
        if mark["options"] != json.loads(json.dumps(options)):
            return False
        try:
            return mark["objects"] == self._digest()
        except UserError as error:
            tqdm.write(f"the frames that were decoded earlier are used unchecked: {error}")
            return True

    def mark_decoded(self, store: shards.Store, options: dict) -> None:
        """Notes that `store` holds the frames of the objects as they were fetched; see `is_decoded`."""
        if self._is_current:
            files.write_json(self._mark(store), {"url": self.url, "options": options, "objects": self._digest()})

    def _mark(self, store):
        return store.folder / f"remote-{self.folder.name}.json"

    def _digest(self):
        listed = [[name, entry.size, entry.version] for name, entry in self._objects.items()]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


class _Work:
    """What the threads that fetch share."""

    def __init__(self, bar, journal):
        self.bar = bar
        self.journal = journal
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def advance(self, count):
        with self.lock:
            self.bar.update(count)

    def note(self, entry):
        with self.lock:
            self.journal.write(json.dumps(entry) + "\n")
            self.journal.flush()


def _size(path):
    """Of a file in bytes, None if there is none."""
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return None


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return base64.b64encode(digest.digest()).decode()
