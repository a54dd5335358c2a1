"""Prepare a data set, show it, and measure how fast it is read.

example:
  tfvp data --config kth --set data.root=/data/KTH

Says what is there and what is missing, and draws a contact sheet.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_config(parser)
    parser.add_argument("--check", action="store_true", help="compare the decoded frames with their checksums")
    parser.add_argument(
        "--prune", action="store_true", help="delete decoded frames whose raw files are gone or were replaced"
    )
    parser.add_argument("--out", default="contact_sheet.png", help="where to draw the contact sheet (PNG)")


def run(options):
    quiet.import_tensorflow()
    from tfvp import config as configuration
    from tfvp import video_io
    from tfvp.datasets.build import build_dataset
    from tfvp.pipeline import overview

    config = configuration.load(options.config, options.overrides)
    dataset = build_dataset(config)
    print(overview.describe(dataset))
    dataset.prune() if options.prune else dataset.prepare()
    if options.check:
        count = dataset.check()
        whole = f"{count} files checked: all are as they were written"
        print(whole if count else "nothing is stored that could be checked")
    print(f"\n{overview.table(dataset)}\n")
    print("\n".join(dataset.notes()))
    video_io.write_video(options.out, overview.contact_sheet(dataset)[None])
    print(f"contact sheet: {options.out}")
    clips, frames = overview.speed(dataset, config)
    shape = f"{config.train.batch_size} x {config.train.seq_len}"
    print(f"training batches of {shape} frames: {clips:,.0f} clips/s, {frames:,.0f} frames/s")
