"""Named evaluation protocols. A number without its protocol means nothing; every result carries one."""

import dataclasses

from tfvp import registry
from tfvp.errors import UserError
from tfvp.metrics.base import VideoMetric
from tfvp.metrics.published import PROTOCOLS, Protocol
from tfvp.pipeline.windows import SAMPLE

__all__ = ["PROTOCOLS", "Protocol", "every_convention", "from_config", "get", "names", "used_by", "with_metrics"]

DEFAULT_METRICS = ("mse", "mae", "psnr", "ssim", "lpips")


def names():
    """Names that `get` knows, "default" and "all"."""
    return ["default", "all", *PROTOCOLS]


def get(name):
    """The protocol called `name`.

    Raises:
        UserError: there is none; the message names the nearest one.
    """
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}{registry.nearest(name, names())}; known: {', '.join(names())}")
    return PROTOCOLS[name]


def from_config(config):
    """The default protocol: what the section `eval` of a `tfvp.config.Config` says.

    Raises:
        UserError: an unknown metric.
    """
    settings = config.eval
    for metric in settings.metrics:
        registry.lookup("metric", metric)
    drawn = registry.lookup("dataset", config.data.name).is_drawn(config.data.to_dict())
    return Protocol(
        "default",
        "What the configuration says, in tfvp's default conventions.",
        "configs/base.yml",
        "",
        settings.split,
        settings.open_loop_ctx,
        settings.eval_seq_len,
        settings.num_examples,
        settings.num_samples,
        tuple(settings.metrics),
        windows="" if drawn or settings.windows == "first" else SAMPLE,
    )


def every_convention(config):
    """The default protocol with every metric that can be computed on the same data.

    One rollout is scored under all conventions of the field; the description of the default
    protocol holds for clips, context and horizon. Metrics of label maps are those that the
    configuration names, and skill scores of nowcasting those that a protocol on the data reports.

    Args:
        config: a `tfvp.config.Config`.
    """
    default = from_config(config)
    return dataclasses.replace(
        default,
        name="all",
        description="One rollout, as the configuration says, under every convention; the table says who uses which.",
        metrics=with_every_general(default.metrics, used_by(config.data.name)),
    )


def with_every_general(first, reported=()):
    """Names of metrics of frames and their features, of any data.

    Args:
        first: names that come first, of any metrics.
        reported: names of skill scores of sets that the data is also scored with.

    Returns:
        A tuple of names, each once.
    """
    selection = dict.fromkeys(first)
    for name in registry.names("metric"):
        metric = registry.lookup("metric", name)
        general = issubclass(metric, VideoMetric) or metric.feature_key is not None
        if not metric.of_labels and (general or name in reported):
            selection[name] = None
    return tuple(selection)


def with_metrics(protocol, names):
    """A protocol with more metrics.

    Args:
        protocol: a `Protocol`.
        names: of registered metrics, computed beside those of the protocol.

    Raises:
        UserError: an unknown metric; the message names the nearest one.
    """
    for name in names:
        registry.lookup("metric", name)
    return dataclasses.replace(protocol, metrics=tuple(dict.fromkeys((*protocol.metrics, *names))))


def used_by(dataset=""):
    """{metric: names of the protocols that report it}, of protocols on a data set, or on any."""
    users = {}
    for protocol in PROTOCOLS.values():
        if not dataset or protocol.dataset in ("", dataset):
            for metric in protocol.metrics:
                users.setdefault(metric, []).append(protocol.name)
    return users
