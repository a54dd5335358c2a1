"""Every model beside the limits of this machine: tfvp benchmark models [--only demo svg] [--skip-published]

Models are trained on noise of the shapes of their configurations. Everything in the tables is
measured in one run, one after the other, so that ratios mean something; absolute times depend
on what else the machine does. "Of convolutions" is the arithmetic of a training step over its
time, in units of the rate that one large convolution reaches. "Alone" is the time that the step's
convolutions and matrix products take when each is called again by itself, over the step's time:
the rest is everything else. Kernels are the operations that a step runs, counted by TensorFlow's profiler; on a
GPU most of them are a launch each. "Noise" is the time that the step's random draws take by themselves. Memory is the
peak of a process.
"""

from tfvp import config, registry
from tfvp import run as runs

from . import choice, loader, models

# (configuration, clips in a batch: as many as keep a step of the published sizes within seconds)
SMALL = [
    ("demo", 32),
    ("svg/tiny", 16),
    ("iam4vp/tiny", 8),
    ("simvp/tiny", 8),
    ("htsr/tiny_additive", 8),
    ("htsr/tiny_cwvae", 8),
    ("hierarchical/shapes_structure", 8),
    ("hierarchical/shapes_image", 4),
]
PUBLISHED = [
    ("convlstm/mmnist", 4),
    ("convlstm/mmnist_openstl", 4),
    ("svg/smmnist", 16),
    ("iam4vp/mmnist", 1),
    ("simvp/mmnist", 4),
    ("cwvae/mmnist", 4),
    ("hierarchical/kitti_structure", 1),
    ("hierarchical/kitti_image", 1),
]
HORIZONS = (10, 100, 1000)


def training_table(rows, limits):
    names = ["configuration", "batch", "parameters", "GMAC a step", "step s", "frames/s", "of convolutions", "alone"]
    names += ["kernels a step", "noise ms", "first step s", "start to first step s", "peak MB", "retraces"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for (path, _), row in rows.items():
        share = row["MACs"] / row["step s"] / 1e9 / limits["convolution"]
        lines.append(
            f"| {path} | {row['batch']} | {row['parameters']:,} | {row['MACs'] / 1e9:,.3g} | {row['step s']:.3g}"
            f" | {row['train frames/s']:,.0f} | {share:.0%} | {row['alone s'] / row['step s']:.0%}"
            f" | {row['kernels']:,} | {1e3 * row['noise s']:.1f} | {row['first step s']:.1f}"
            f" | {row['start to first step s']:.1f} | {row['train MB']:,.0f} | {row['retraces']} |"
        )
    return lines


def rollout_table(rows):
    lines = [
        "| configuration | " + " | ".join(f"frames/s, {h} frames | peak MB" for h in HORIZONS) + " |",
        "|---" + "|---|---" * len(HORIZONS) + "|",
    ]
    for (path, _), row in rows.items():
        cells = [
            "{:,.3g} | {:,.0f}".format(*row["rollout"][h]) if h in row["rollout"] else "too slow to wait for | "
            for h in HORIZONS
        ]
        lines.append(f"| {path} | " + " | ".join(cells) + " |")
    return lines


def replica_line(path, batch, row):
    two = models.row_of(path, batch, (), replicas=2)
    if two is None:
        return f"{path}: two replicas could not be measured"
    return (
        f"{path}, batch {batch}: a step of two replicas on the same cores takes {two['step s'] / row['step s']:.2f}"
        " times as long as one of one replica"
    )


def loader_lines(paths, seconds):
    lines, seen = ["| data set | frames/s in batches of 16 x 20 |", "|---|---|"], set()
    for path in paths:
        loaded = config.load(path)
        settings = (loaded.data.name, loaded.data.image_size, loaded.data.channels)
        if settings in seen or not hasattr(registry.lookup("dataset", loaded.data.name), "counts"):
            continue
        seen.add(settings)
        rate = loader.through_pipeline(loader.generated(*settings), seconds)
        lines.append(f"| {settings[0]}, {settings[1]} pixels, drawn | {rate:,.0f} |")
    return lines


def run(options):
    selected = SMALL + ([] if options.skip_published else PUBLISHED)
    if options.published_batch:
        selected = [(path, 0) for path, _ in PUBLISHED]  # 0: as the configuration says
    selected = choice.chosen(selected, options.only, lambda pair: pair[0])
    import tensorflow as tf

    limits = models.limits()
    here = runs.describe_environment([])
    print(f"commit {here['commit']}, {here['processor']}, {here['cores']} cores, TensorFlow {tf.__version__}")
    print(", ".join(f"{name}: {rate:.0f} GMAC/s" for name, rate in limits.items()), flush=True)
    rows = {}
    for pair in selected:
        row = models.row_of(*pair, HORIZONS)
        if row is None:
            batch = "its published batch" if options.published_batch else f"batches of {pair[1]}"
            print(f"{pair[0]} could not be measured with {batch}: too little memory, or the error above", flush=True)
            continue
        rows[pair] = row
        print("\n".join([training_table({pair: row}, limits)[-1], rollout_table({pair: row})[-1]]), flush=True)
    print("\n".join(["", "Training", "", *training_table(rows, limits), "", "Prediction of one clip", ""]))
    print("\n".join([*rollout_table(rows), "", "Loaders", "", *loader_lines([path for path, _ in rows], 2.0), ""]))
    for pair in [pair for pair in rows if pair in SMALL[:2]]:
        print(replica_line(*pair, rows[pair]))
