"""Where a data set's decoded frames lie, and what is said of them."""

import hashlib
import os
import pathlib

from tfvp.datasets import losses
from tfvp.errors import UserError
from tfvp.pipeline import frame_codecs, remote, shards

SHOWN = 3  # names in a sentence


def store_of(dataset):
    """The `shards.Store` of a `FileDataset`: below data.root, or in data.cache, which several folders may share.

    Raises:
        UserError: there is no data.root, and nothing was decoded from it.
    """
    height, width, channels = dataset.frame_shape
    name = f"{dataset.name}-{height}x{width}x{channels}"
    settings = {"dataset": dataset.name, "image_size": [height, width], "channels": channels}
    settings.update(dataset.decoding_options())
    splitting = [key for key in dataset.split_options if key in dataset.options and key not in settings]
    splitting = {key: dataset.options[key] for key in splitting}
    if dataset.settings.mirror:
        root = dataset.settings.mirror.raw
    else:
        root = pathlib.Path(dataset.settings.root).expanduser() if dataset.settings.root else dataset.root
    inside = root / ".tfvp"
    arrays, storage = dataset.arrays(), dataset.settings.storage
    if storage != "raw" and frame_codecs.codec_of(storage, "video", *arrays["video"]) is None:
        raise UserError(
            f"data.storage={storage} keeps frames of bytes in grey or RGB, but {dataset.name} has {channels} channels"
            f" of {arrays['video'][0].__name__}; set data.storage=raw"
        )
    more = {"splitting": splitting, "root": root, "storage": storage}
    local = shards.Store(inside / name, settings, arrays, earlier=[inside], **more)
    writable = root.is_dir() and os.access(inside if inside.is_dir() else root, os.W_OK)
    # Frames beside a copy's raw files would go when these are deleted.
    if not dataset.settings.cache and not dataset.settings.mirror and (writable or local.manifest_path.exists()):
        return local
    home = remote.cache(dataset.settings.cache)
    view = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
    if dataset.depends_on_root:
        settings = {**settings, "root": view}
    earlier = [home / view] if writable else [home / view, inside]
    return shards.Store(home / name, settings, arrays, view=view, earlier=earlier, **more)


def prepare(dataset, progress, prune=False):
    """Decodes what is not decoded yet, and says what is skipped and what is gone; see `VideoDataset.prepare`."""
    mirror = dataset.settings.mirror
    if mirror and not prune and mirror.is_decoded(dataset.store, dataset.options):
        dataset.store.mark_used()
    else:
        if mirror:
            mirror.fetch(progress)
        _decode(dataset, progress, prune)
        if mirror and not dataset.store.lost:
            mirror.mark_decoded(dataset.store, dataset.options)
    losses.check(dataset)
    for sentence in sentences(dataset):
        dataset.warn_once(sentence)


def _decode(dataset, progress, prune):
    store = dataset.store
    sources = _sources(dataset, store)
    if not sources and (prune or not store.manifest_path.exists()):
        root, download = dataset.settings.root, dataset.info.download
        raise UserError(f"{root} contains nothing that {dataset.name} can read; {download}")
    try:
        store.prepare(sources, dataset.decode, progress, prune, dataset.divided, dataset.frames_in)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; the files that were decoded are kept; rerun the same command to decode the others"
        ) from None


def sentences(dataset):
    """What there is to say of files that are not used, or only in part, or are used no more than once."""
    manifest, result = dataset.store.manifest, losses.sentences(dataset)
    if dataset.settings.storage == "jpeg":
        result.append(f"frames of {dataset.name} are kept as JPEG (data.storage), and differ a little from the files'")
    if lost := dataset.store.lost:
        result.append(
            f"{len(lost)} of {len(manifest['sources'])} files of {dataset.name} are gone from {dataset.settings.root}"
            f" ({_some(lost)}); their decoded frames are still used, and `tfvp data --prune` drops them"
        )
    return result


def _some(names):
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _sources(dataset, store):
    """The raw files; none where the whole folder is gone, or empty as a mount point is, and its frames are there."""
    root = pathlib.Path(store.root)
    if store.manifest_path.exists():
        if not root.is_dir() or not any(entry.name != ".tfvp" for entry in os.scandir(root)):
            return []
    return dataset.sources()
