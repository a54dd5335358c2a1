"""The SVG authors' PyTorch checkpoints, turned into a run; PyTorch is not needed.

    tfvp import svg model.pth --config svg/smmnist --logdir ./logs

The file holds whole modules: encoder, decoder, frame_predictor, posterior and, for LP, prior.
"""

import numpy as np
import tensorflow as tf

from tfvp import config as configuration
from tfvp.errors import UserError
from tfvp.importers import torch_file, write_run
from tfvp.layers.svg_coder import FrameDecoder, FrameEncoder
from tfvp.models.build import build_model

NETWORKS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "frame_predictor": "predictor",
    "posterior": "posterior",
    "prior": "prior",
}

# What the published models compute, whatever the configuration says.
AS_RELEASED = ("model.skip_frame=reference",)
# How the released code generates, which --set may change: LP with batch norm in training mode and sampled latents
# of observed frames, FP with running statistics and the means.
GENERATION = {
    "learned": ("model.bn_mode=batch", "model.sample_context=true"),
    "fixed": ("model.bn_mode=running", "model.sample_context=false"),
}


def variables(layer):
    """The variables of one of SVG's networks, in PyTorch's order, each with its axes there.

    Args:
        layer: a built `FrameEncoder`, `FrameDecoder` or `tfvp.layers.recurrent.Recurrent`.

    Returns:
        A list of (suffix of the name in PyTorch, variable, order of axes to transpose by).
    """
    entries = []
    for block in _blocks(layer):
        # (out, in, h, w), or (in, out, h, w) where transposed, to Keras's (h, w, in, out) or (h, w, out, in).
        entries += [("weight", block.conv.kernel, (2, 3, 1, 0)), ("bias", block.conv.bias, (0,))]
        if block.norm is not None:
            norm = block.norm
            entries += [("weight", norm.gamma, (0,)), ("bias", norm.beta, (0,))]
            entries += [("running_mean", norm.moving_mean, (0,)), ("running_var", norm.moving_variance, (0,))]
    if entries:
        return entries
    entries = [("weight", layer.embed.kernel, (1, 0)), ("bias", layer.embed.bias, (0,))]
    for lstm in layer.cells:
        entries += [
            ("weight_ih", lstm.kernel, (1, 0)),
            ("weight_hh", lstm.recurrent_kernel, (1, 0)),
            ("bias_ih", lstm.bias, (0,)),
            ("bias_hh", lstm.recurrent_bias, (0,)),
        ]
    for head in layer.heads:
        entries += [("weight", head.kernel, (1, 0)), ("bias", head.bias, (0,))]
    return entries


def _blocks(layer):
    """The convolution blocks of an encoder or decoder, in order."""
    first = [layer.first] if isinstance(layer, FrameDecoder) else []
    last = [layer.last] if isinstance(layer, FrameEncoder) else []
    return [*first, *getattr(layer, "convs", []), *last]


def assign(layer, arrays):
    """Gives a network the parameters {name: array} that PyTorch has for it, in its order.

    Running statistics of batch norm are optional.

    Returns:
        Whether the running statistics were there.

    Raises:
        UserError: another number of parameters, or another shape.
    """
    arrays = {name: value for name, value in arrays.items() if not name.endswith("num_batches_tracked")}
    wanted = variables(layer)
    complete = any(name.endswith("running_mean") for name in arrays)
    if not complete:
        wanted = [entry for entry in wanted if not entry[0].startswith("running")]
    if len(arrays) != len(wanted):
        raise UserError(
            f"the checkpoint has {len(arrays)} arrays, the configuration makes {len(wanted)};"
            f" check model.encoder and the sizes"
        )
    for (name, value), (suffix, variable, axes) in zip(arrays.items(), wanted):
        value = np.transpose(value, axes) if value.ndim == len(axes) else value
        if not name.endswith(suffix) or tuple(value.shape) != tuple(variable.shape):
            raise UserError(
                f"{name} has shape {tuple(value.shape)}, the configuration makes it {suffix} {tuple(variable.shape)}"
            )
        variable.assign(tf.cast(value, variable.dtype))
    return complete


def load(model, content):
    """Loads the content that `torch_file.read` gives into a `tfvp.models.svg.SVG`.

    Raises:
        UserError: a network is missing or does not fit, or the model would predict with running
            statistics of batch norm that the checkpoint does not have.
    """
    if not isinstance(content, dict):
        raise UserError("the checkpoint is not a mapping of networks (encoder, decoder, ...)")
    for theirs, ours in NETWORKS.items():
        layer = getattr(model, ours)
        if layer is None:
            continue
        if theirs not in content:
            raise UserError(f"the checkpoint has no {theirs}; for SVG-FP set model.prior=fixed")
        try:
            complete = assign(layer, torch_file.state_dict(content[theirs]))
        except UserError as error:
            raise UserError(f"{theirs}: {error}") from None
        if not complete and _blocks(layer) and model.bn_mode == "running":
            raise UserError(
                f"the {theirs} of the checkpoint has no running statistics of batch norm; set model.bn_mode=batch,"
                " which takes those of the batch"
            )


def as_released(path, overrides=(), name=None):
    """The configuration of an imported model: a file, changed to what the released code computes."""
    config = configuration.load(path, overrides)
    generation = GENERATION.get(config.model.get("prior"), ())
    return configuration.load(path, [*generation, *overrides, *AS_RELEASED], name)


def import_checkpoint(checkpoint, config, overrides=(), logdir="./logs", name=None):
    """Makes the run of a published checkpoint.

    Args:
        checkpoint: the authors' model.pth.
        config: of the model; see `tfvp.config.find`.
        overrides: strings "section.key=value".
        logdir: folder of runs.
        name: of the run. Defaults to that of the configuration.

    Returns:
        The `tfvp.run.Run`.

    Raises:
        UserError: a configuration of another model, a checkpoint that cannot be read or does not fit it, or a run with
            other weights in the way.
    """
    if configuration.load(config, overrides).model.name != "svg":
        raise UserError(f"{config} does not describe SVG; use one of svg/...")
    settings = as_released(config, overrides, name)
    content = torch_file.read(checkpoint)
    model = build_model(settings)
    load(model, content)
    return write_run(model, settings, logdir, checkpoint)
