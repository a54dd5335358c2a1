"""The clips that an evaluation is made on."""

from tfvp import config as configuration
from tfvp import registry
from tfvp.datasets.build import build_dataset
from tfvp.evaluation import provenance
from tfvp.metrics.published import PROTOCOLS
from tfvp.pipeline import batching
from tfvp.pipeline.windows import SAMPLE, SAMPLE_SEED, sample


class Selection:
    """The clips that a protocol selects from the data of a run, prepared to be read.

    Args:
        config: the run's `tfvp.config.Config`.
        protocol: a `tfvp.metrics.protocols.Protocol`.
        datadir: folder of the data. Defaults to the configuration's `data.root`.
        needs: of the model that takes the clips; see `VideoModel.needs`.

    Attributes:
        config: the configuration that the data set was built from.
        dataset: a `VideoDataset`.
        stride: frames of a clip from one frame of a window to the next.
        clips: a `tfvp.evaluation.per_clip.Clips`; the hashes of their frames are known once they were read.
        batch_size: clips in a batch.

    Raises:
        UserError: data are missing, or no clip is long enough.
    """

    def __init__(self, config, protocol, datadir=None, needs=()):
        published = protocol.name in PROTOCOLS
        self.config = data_config(config, datadir, protocol.seq_len, protocol.windows, published)
        self.dataset = build_dataset(self.config)
        self.dataset.prepare()
        self.protocol = protocol
        self.stride = protocol.frame_stride or config.data.frame_stride
        self.batch_size = config.eval.batch_size
        self._needs = [key for key in needs if key == "labels"]
        windows = None
        if published and protocol.windows in ("", SAMPLE):
            option = f"eval.eval_seq_len with --protocol default, as {protocol.name} fixes {protocol.seq_len} frames"
            self.dataset.usable_clips(protocol.split, protocol.seq_len, self.stride, option)
        if protocol.windows == SAMPLE:
            windows = sample(self.dataset, protocol.split, protocol.seq_len, self.stride, protocol.num_examples)
        elif protocol.windows:
            windows = self.dataset.evaluation_windows(protocol.windows, protocol.seq_len, self.stride)
        self._which = {
            "length": protocol.seq_len,
            "num_examples": protocol.num_examples,
            "stride": self.stride,
            "windows": windows,
        }
        numbers, starts, _ = batching.evaluation_windows(self.dataset, protocol.split, **self._which)
        self.clips = provenance.describe_clips(self.dataset, protocol.split, numbers, starts, protocol.seq_len)

    def __len__(self):
        return len(self.clips.ids)

    def clips_in(self, batches):
        """How many clips the batches of these numbers hold, without padding."""
        return sum(min(self.batch_size, len(self) - n * self.batch_size) for n in batches)

    def batches(self, skip=()):
        """The batches, without those of some numbers; see `tfvp.pipeline.batching.evaluation_batches`."""
        return self._read(batch_size=self.batch_size, skip=skip)

    def batch_of(self, positions):
        """One batch of the clips at these positions."""
        return self._read(batch_size=len(positions), positions=positions)

    def batch_around(self, position):
        """The clips of the batch that the clip at a position is scored in, that clip first."""
        first = position // self.batch_size * self.batch_size
        rows = [row % len(self) for row in range(first, first + self.batch_size)]
        rows.remove(position)
        return self.batch_of([position, *rows])

    def _read(self, **how):
        split = self.protocol.split
        return batching.evaluation_batches(self.dataset, split, needs=self._needs, **how, **self._which)[0]

    def describe(self):
        """The section "data" of metrics.json."""
        section = provenance.describe_data(self.config, self.dataset, self.protocol.split, self.stride, self.clips)
        return {**section, **({"sample_seed": SAMPLE_SEED} if self.protocol.windows == SAMPLE else {})}


def data_config(config, root=None, frames=0, windows="", published=False):
    """`config` for an evaluation's data.

    Args:
        config: the run's `tfvp.config.Config`.
        root: another `data.root`, or None.
        frames: length of the clips; drawn clips are made as long where they are shorter. Their
            first frames are the same, whatever their length.
        windows: the protocol's rule of test windows; those that a publication fixes count the frames of whole
            clips, also where the model was trained on segments of them.
        published: whether the protocol is a publication's: its numbers are of the files' own frames, so that frames
            that are kept with losses are decoded once more.
    """
    values = config.to_dict()
    if root is not None:
        values["data"]["root"] = root
    span = (frames - 1) * config.data.frame_stride + 1
    drawn = registry.lookup("dataset", config.data.name).endless
    if drawn and values["data"].get("clip_length", span) < span:
        values["data"]["clip_length"] = span
    if windows not in ("", SAMPLE) and "segments" in values["data"]:
        values["data"]["segments"] = False
    if published and values["data"].get("storage") == "jpeg":
        values["data"]["storage"] = "lossless"
    return configuration.Config(values, config.name)
