"""The released PyTorch checkpoint of IAM4VP, turned into a run; PyTorch is not needed.

    tfvp import iam4vp checkpoint.pth --config iam4vp/mmnist --logdir ./logs

The file holds a state dict, itself or under "state_dict", "model" or "ema".
"""

import typing

import numpy as np
import tensorflow as tf

from tfvp import config as configuration
from tfvp.errors import UserError
from tfvp.importers import torch_file, write_run
from tfvp.models.build import build_model

CONTAINERS = ("ema", "state_dict", "model")
# The released code allocates a block that it never runs.
AS_RELEASED = ("model.legacy_dead_block=true",)


class Layout(typing.NamedTuple):
    """How one PyTorch parameter becomes our variables (`forward`), and back."""

    forward: typing.Callable
    backward: typing.Callable


def _transposed(*axes):
    return Layout(lambda w: [np.transpose(w, axes)], lambda ours: np.transpose(ours[0], np.argsort(axes)))


PLAIN = Layout(lambda w: [w], lambda ours: ours[0])
CONV, DEPTHWISE, DENSE = _transposed(2, 3, 1, 0), _transposed(2, 3, 0, 1), _transposed(1, 0)
TOKENS = _transposed(0, 2, 3, 1)


def _shuffled(order):
    """Pixel shuffle: PyTorch's channel 4 c + 2 i + j is TensorFlow's (2 i + j) C + c."""

    def forward(w):
        kernel = order.forward(w)[0]
        return [np.moveaxis(kernel.reshape(*kernel.shape[:-1], -1, 4), -1, -2).reshape(kernel.shape)]

    def backward(ours):
        kernel = ours[0]
        return order.backward([np.moveaxis(kernel.reshape(*kernel.shape[:-1], 4, -1), -2, -1).reshape(kernel.shape)])

    return Layout(forward, backward)


def _split(order, axis):
    """One kernel there, two here: the halves of its input channels, on our axis."""
    return Layout(
        lambda w: np.split(order.forward(w)[0], 2, axis=axis),
        lambda ours: order.backward([np.concatenate(ours, axis=axis)]),
    )


def _grouped():
    """A grouped kernel (D, 2, 7, 7) is a depthwise one of 2 D channels, whose halves are two layers here."""

    def forward(w):
        depthwise = w.reshape(-1, 1, *w.shape[2:]).transpose(2, 3, 0, 1)
        return np.split(depthwise, 2, axis=2)

    def backward(ours):
        depthwise = np.concatenate(ours, axis=2).transpose(2, 3, 0, 1)
        return depthwise.reshape(-1, 2, *depthwise.shape[2:])

    return Layout(forward, backward)


def variables(model):
    """{name in PyTorch: ([our variables], `Layout`)}, in PyTorch's order.

    Args:
        model: a `tfvp.models.iam4vp.IAM4VP` with as many observed as predicted frames.

    Raises:
        UserError: a model that the released code could not have.
    """
    if not model.bottle.pairs or model.queue_encoder is model.encoder:
        raise UserError("published checkpoints have model.context = model.horizon and two encoders")
    layouts = {"mask_token": ([model.mask_token], TOKENS)}

    def affine(name, layer, order):
        layouts[f"{name}.weight"] = ([layer.kernel], order)
        layouts[f"{name}.bias"] = ([layer.bias], PLAIN)

    def norm(name, layer):
        layouts[f"{name}.weight"], layouts[f"{name}.bias"] = ([layer.gamma], PLAIN), ([layer.beta], PLAIN)

    def depthwise(name, layer):
        kernel = layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel
        layouts[f"{name}.weight"], layouts[f"{name}.bias"] = ([kernel], DEPTHWISE), ([layer.bias], PLAIN)

    def units(name, units):
        for i, unit in enumerate(units):
            conv = f"{name}.{i}.conv.conv{'.0' if unit.upsample else ''}"
            order = _shuffled(CONV) if unit.upsample else CONV
            if unit.skip_conv is not None:
                layouts[f"{conv}.weight"] = ([unit.conv.kernel, unit.skip_conv.kernel], _split(CONV, 2))
            else:
                layouts[f"{conv}.weight"] = ([unit.conv.kernel], order)
            layouts[f"{conv}.bias"] = ([unit.conv.bias], _shuffled(PLAIN) if unit.upsample else PLAIN)
            norm(f"{name}.{i}.conv.norm", unit.norm)

    def attention(name, layer):
        depthwise(f"{name}.conv0", layer.local)
        depthwise(f"{name}.conv_spatial", layer.wide)
        affine(f"{name}.conv1", layer.mix, CONV)

    def block(name, layer):
        layouts[f"{name}.gamma"] = ([layer.gamma], PLAIN)
        affine(f"{name}.mlp.1", layer.time_head, DENSE)
        if layer is model.bottle:
            layouts[f"{name}.dwconv.weight"] = ([_kernel(d) for d in layer.depthwise], _grouped())
            layouts[f"{name}.dwconv.bias"] = ([layer.bias], PLAIN)
        else:
            attention(f"{name}.dwconv", layer.mixer)
        norm(f"{name}.norm", layer.norm)
        affine(f"{name}.pwconv1", layer.expand, DENSE)
        affine(f"{name}.pwconv2", layer.project, DENSE)
        if layer is model.bottle:
            layouts[f"{name}.res_conv.weight"] = ([r.kernel for r in layer.residual], _split(CONV, 2))
            layouts[f"{name}.res_conv.bias"] = ([layer.residual[0].bias], PLAIN)

    for i, dense in enumerate(model.time_denses, start=1):
        affine(f"time_mlp.linear{i}", dense, DENSE)
    units("enc.enc", model.encoder.units)
    blocks = [model.bottle, *model.blocks, *filter(None, [model.dead_block])]
    for i, layer in enumerate(blocks):
        block(f"hid.st_block.{i}", layer)
    units("dec.dec", model.decoder.units)
    affine("dec.readout", model.merge, CONV)
    affine("attn.proj_1", model.refine.into, CONV)
    attention("attn.spatial_gating_unit", model.refine.attention)
    affine("attn.proj_2", model.refine.out, CONV)
    affine("readout", model.readout, CONV)
    units("lp.enc", model.queue_encoder.units)
    return layouts


def _kernel(layer):
    return layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel


def assign(model, arrays, partial=False):
    """Gives a model the parameters {name: array} of a state dict.

    Args:
        model: as for `variables`.
        arrays: PyTorch's, by name.
        partial: whether parameters may be missing.

    Raises:
        UserError: names or shapes that do not fit.
    """
    wanted = variables(model)
    missing, extra = [n for n in wanted if n not in arrays], [n for n in arrays if n not in wanted]
    if extra or missing and not partial:
        raise UserError(
            f"the checkpoint does not fit the configuration: it lacks {len(missing)} parameters"
            f" ({', '.join(missing[:3])})"
            f" and has {len(extra)} others ({', '.join(extra[:3])}); check model.blocks"
        )
    for name, array in arrays.items():
        ours, order = wanted[name]
        values = order.forward(np.asarray(array))
        for variable, value in zip(ours, values, strict=True):
            if tuple(variable.shape) != value.shape:
                raise UserError(
                    f"{name} has shape {np.shape(array)}, which does not fit the configuration's"
                    f" {tuple(variable.shape)}"
                )
            variable.assign(tf.cast(value, variable.dtype))


def import_checkpoint(checkpoint, config, overrides=(), logdir="./logs", name=None):
    """Makes the run of a published checkpoint.

    Args:
        checkpoint: the .pth file.
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
    if configuration.load(config, overrides).model.name != "iam4vp":
        raise UserError(f"{config} does not describe IAM4VP; use one of iam4vp/...")
    settings = configuration.load(config, [*overrides, *AS_RELEASED], name)
    content = torch_file.read(checkpoint)
    for key in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    model = build_model(settings)
    assign(model, {name.removeprefix("module."): array for name, array in torch_file.state_dict(content).items()})
    return write_run(model, settings, logdir, checkpoint)
