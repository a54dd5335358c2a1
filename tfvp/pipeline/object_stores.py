"""Object stores such as gs://bucket/kth and s3://bucket/kth: what they hold, and pieces of it.

Access goes through fsspec, which has drivers for most stores; each finds credentials in its own way.
"""

import collections.abc
import contextlib
import dataclasses
import datetime
import functools
import pathlib
import re
import time

from tfvp.errors import UserError

INSTALL = "pip install 'tfvp[remote]'"
# Seconds before a request is tried again, beside the tries of the driver. Where a listing fails, nothing is lost yet.
WAITS = (1.0, 2.0, 4.0, 8.0)
LISTING_WAITS = (1.0,)
# What drivers call an object's version: checksums first, as they are the same for the same content.
_VERSIONS = ("md5Hash", "crc32c", "ETag", "etag", "generation", "checksum", "content_md5", "md5", "sha256")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
# Drivers have errors of their own for credentials, and some say so in the text alone.
_REFUSED_TYPE = re.compile(r"Credential|Auth|Forbidden|AccessDenied|Permission|TokenRetrieval", re.IGNORECASE)
_REFUSED_TEXT = re.compile(r"credentials|access ?denied|anonymous caller|forbidden|unauthorized", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of a store.

    Attributes:
        path: what its driver calls it.
        size: bytes.
        version: differs once the content does; a checksum or tag of the store, else the time of the last change.
        changed: when that was, in seconds since 1970, or None.
        md5: of its content in base64, or "" where the store does not say.
    """

    path: str
    size: int
    version: str
    changed: float | None
    md5: str


class Folder:
    """A folder in an object store.

    Args:
        url: such as gs://bucket/kth.

    Raises:
        UserError: it is no such URL, or fsspec or the driver is not installed.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        kind, _, rest = url.partition(":")
        if kind.lower() in ("http", "https"):
            raise UserError(f"data.root={url} is a web page, which lists no files; download them into a folder")
        if not rest.startswith(("//", ":")):
            raise UserError(f"data.root={url} is neither a folder nor a URL; write {kind}://{rest.lstrip('/')}")
        try:
            import fsspec
        except ImportError:
            raise UserError(f"data.root={url} needs fsspec and a driver for {kind}://; {INSTALL}") from None
        try:
            self.system, self.path = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise UserError(
                f"data.root={url} needs a driver for {kind}:// ({error}); {INSTALL} brings those of gs:// and s3://"
            ) from None
        except ValueError as error:
            raise UserError(f"data.root={url}: fsspec has no driver for {kind}:// ({error})") from None
        except Exception as error:
            raise UserError(self._unreachable(error)) from error

    def objects(self) -> dict[str, Object]:
        """{path below the URL: `Object`} of what the folder holds now, without hidden files.

        Raises:
            UserError: the store cannot be reached, or there is nothing that can be copied.
        """
        try:
            self.system.invalidate_cache()
            listed = _retried(
                functools.partial(self.system.find, self.path, withdirs=False, detail=True), LISTING_WAITS
            )
        except FileNotFoundError:
            listed = {}
        except Exception as error:
            raise UserError(self._unreachable(error)) from error
        result, above = {}, f"{self.path.rstrip('/')}/"
        for path, entry in sorted(listed.items()):
            parts = path[len(above) :].split("/")
            if path == self.path and entry.get("size"):
                raise UserError(f"data.root={self.url} is one object; name the folder that it is in")
            if entry.get("type") == "directory" or path.endswith("/") or not path.startswith(above):
                continue
            if "" in parts or ".." in parts:
                raise UserError(f"{path} in {self.url} is no possible name of a file; rename the object")
            if not any(part.startswith(".") for part in parts):
                result["/".join(parts)] = _described(path, entry)
        if not result:
            raise UserError(f"data.root={self.url} holds nothing, or does not exist; check how it is spelt")
        for name in result:
            if any(folder.as_posix() in result for folder in pathlib.PurePosixPath(name).parents[:-1]):
                raise UserError(f"{self.url} holds {name} below an object with the name of its folder; rename that one")
        return result

    def read(self, entry: Object, begin: int, end: int) -> bytes:
        """Bytes of an object; tried again after errors that may pass.

        Raises:
            FileNotFoundError: there is no such object any more.
            UserError: it cannot be read.
        """
        try:
            return _retried(functools.partial(self.system.cat_file, entry.path, start=begin, end=end), WAITS)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise UserError(
                f"{entry.path} cannot be fetched ({_reason(error)}); rerun the same command, what was fetched is kept"
            ) from error

    def _unreachable(self, error):
        if _is_refusal(error):
            return (
                f"data.root={self.url} may not be read ({_reason(error)}); give credentials as its driver expects them,"
                " with aws configure or gcloud auth application-default login; docs/remote.md tells how for public data"
            )
        return f"data.root={self.url} cannot be listed ({_reason(error)}); check its name and the network"


def _described(path, entry):
    if entry.get("size") is None:
        raise UserError(f"the store does not tell the size of {path}, so a copy could not be checked; copy it by hand")
    version = next((str(entry[key]) for key in _VERSIONS if entry.get(key)), "")
    changed = next((entry[key] for key in _TIMES if entry.get(key)), None)
    md5 = entry.get("md5Hash") or ""
    return Object(path, int(entry["size"]), version or str(changed), _seconds(changed), str(md5))


def _seconds(changed):
    if isinstance(changed, str):
        with contextlib.suppress(ValueError):
            changed = datetime.datetime.fromisoformat(changed.replace("Z", "+00:00"))
    if isinstance(changed, datetime.datetime):
        return changed.timestamp()
    return float(changed) if isinstance(changed, (int, float)) else None


def _retried(request: collections.abc.Callable, waits):
    """The result of a request, which is tried again after errors that may pass."""
    for wait in (*waits, None):
        try:
            return request()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except Exception as error:  # every driver has types of its own
            if wait is None or _is_refusal(error):
                raise
            time.sleep(wait)


def _is_refusal(error):
    named = _REFUSED_TYPE.search(type(error).__name__)
    return isinstance(error, PermissionError) or bool(named or _REFUSED_TEXT.search(str(error)))


def _reason(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
