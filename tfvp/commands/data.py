"""Prepare a data set, show it, and measure how fast it is read; or list and remove what is kept of decoded frames.

examples:
  tfvp data --config kth --set data.root=/data/KTH
  tfvp data --config kth --set data.root=/data/KTH --prune
  tfvp data --cache
  tfvp data --cache /data/KTH --remove kth-64x64x1-1550eacd33

Says what is there and what is missing, and draws a contact sheet. Without folders, --cache looks where
data.cache is not set: into ~/.cache/tfvp, or the folder that the environment variable TFVP_CACHE names.
"""

import json
import pathlib
import sys

from tfvp import files, quiet
from tfvp.commands import arguments, output
from tfvp.errors import UserError


def add_arguments(parser):
    arguments.add_config(parser, required=False)
    parser.add_argument("--check", action="store_true", help="compare the decoded frames with their checksums")
    parser.add_argument(
        "--prune", action="store_true", help="delete decoded frames whose raw files are gone or were replaced"
    )
    parser.add_argument(
        "--out",
        metavar="PNG",
        help="where to draw the contact sheet; default: contact_sheet.png here, or beside the decoded frames where"
        " this is data.root",
    )
    cache = parser.add_argument_group("what is kept of decoded frames")
    cache.add_argument(
        "--cache",
        nargs="*",
        metavar="FOLDER",
        help="list decoded frames in these folders of raw files or data.cache, and in those of --config",
    )
    cache.add_argument("--remove", nargs="+", default=[], metavar="NAME", help="delete those that are listed as NAME")
    cache.add_argument(
        "--remove-old",
        type=float,
        metavar="DAYS",
        help="delete those of earlier versions, and those that were not used for so many days",
    )
    cache.add_argument("--yes", action="store_true", help="delete without asking")
    cache.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options):
    if options.cache is None and (options.remove or options.remove_old is not None or options.json):
        raise UserError("--remove, --remove-old and --json go with --cache, which lists decoded frames")
    if options.cache is not None:
        return manage(options)
    if not options.config:
        raise UserError("say which data set: --config with a YAML file or the name of one that ships with tfvp")
    show(options)


def show(options):
    """Prepares a data set and shows it."""
    quiet.import_tensorflow()
    from tfvp import config as configuration
    from tfvp import video_io
    from tfvp.datasets.build import build_dataset
    from tfvp.pipeline import overview
    from tfvp.training import checks

    config = configuration.load(options.config, options.overrides)
    checks.check_clips(config)
    dataset = build_dataset(config)
    print(overview.describe(dataset))
    out = _sheet(options.out, dataset, config)
    dataset.prune() if options.prune else dataset.prepare()
    if options.check:
        count = dataset.check()
        whole = f"{count} files checked: all are as they were written"
        print(whole if count else "nothing is stored that could be checked")
    print(f"\n{overview.table(dataset)}\n")
    print("\n".join(dataset.notes()))
    video_io.write_video(out, overview.contact_sheet(dataset)[None])
    print(f"contact sheet: {out}")
    clips, frames = overview.speed(dataset, config)
    shape = f"{config.train.batch_size} x {config.train.seq_len}"
    print(f"training batches of {shape} frames: {clips:,.0f} clips/s, {frames:,.0f} frames/s")


def _sheet(out, dataset, config):
    """Where the contact sheet is drawn: not among the files that it would be taken for one of."""
    from tfvp import video_io
    from tfvp.datasets import build

    if out:
        build.check_output(config, out)
    path = pathlib.Path(out or video_io.CONTACT_SHEET)
    return dataset.store.folder.parent / path if build.lies_in_data(config, path) else path


def manage(options):
    """Lists decoded frames, and removes some."""
    from tfvp.pipeline import caches, remote

    places = list(options.cache)
    if options.config:
        quiet.import_tensorflow()
        from tfvp import config as configuration

        data = configuration.load(options.config, options.overrides).data
        places += [place for place in (data.root, data.cache) if place and not files.is_url(place)]
    cached = caches.listed(places or [remote.cache()])
    if not options.remove and options.remove_old is None:
        listed = json.dumps([one.to_dict() for one in cached], indent=1)
        return output.show(listed if options.json else _table(cached, places))
    going = caches.chosen(cached, options.remove)
    if options.remove_old is not None:
        earlier = [one for one in cached if one.state.startswith("format") or one.age() >= options.remove_old]
        going += [one for one in earlier if one not in going]
    if not going:
        print(json.dumps([]) if options.json else "nothing to remove")
        return
    if not options.yes and not _agrees(going):
        raise UserError("nothing is removed; --yes removes without asking")
    for one in going:
        caches.remove(one)
        if not options.json:
            print(f"removed {one.path} ({files.readable_size(one.bytes)})")
    if options.json:
        print(json.dumps([one.to_dict() for one in going], indent=1))


def _agrees(going):
    """Whether the user wants to delete these."""
    print(f"{_table(going)}\n", file=sys.stderr)
    if not sys.stdin.isatty():
        return False
    print(f"delete {'this' if len(going) == 1 else f'these {len(going)}'}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _root(folder):
    return folder if pathlib.Path(folder).is_dir() else f"{folder} (gone)"


def _table(cached, places=()):
    if not cached:
        return f"no decoded frames in {', '.join(map(str, places)) or 'the cache'}"
    lines = []
    for one in cached:
        known = " ".join(
            f"{key}={value}" for key, value in one.settings.items() if key not in ("image_size", "channels")
        )
        lines += [
            f"{one.name}  {files.readable_size(one.bytes)}, {one.state}, last used {one.used[:10]}",
            f"    {one.path}",
            *([f"    {known}"] if known else []),
            *([f"    decoded from {', '.join(map(_root, one.roots))}"] if one.roots else []),
        ]
    total = files.readable_size(sum(one.bytes for one in cached))
    return "\n".join([*lines, f"{len(cached)} folder{'s' * (len(cached) != 1)}, {total}"])
