"""Published TensorFlow checkpoints of CW-VAE and HTSR, turned into a run.

    tfvp import htsr CHECKPOINT --config cwvae/mmnist --logdir ./logs

CHECKPOINT is what `tf.compat.v1.train.Saver` wrote: a prefix such as model_5000/model, or a
folder with a `checkpoint` file. Moving averages and optimizer slots are passed over.
"""

import itertools
import pathlib

import tensorflow as tf

from tfvp import config as configuration
from tfvp.errors import UserError
from tfvp.importers import write_run
from tfvp.models.build import build_model

IGNORED = ("/Adam", "/ExponentialMovingAverage", "beta1_power", "beta2_power", "global_step", "RMSProp", "Momentum")

# What the published models compute, whatever the configuration says.
AS_RELEASED = ("model.output=tanh", "model.legacy_offset=true")
RELEASED_CELLS = "model.conv_cells=legacy"


def reference_variables(model):
    """The model's variables under the names that the references' code gives them.

    Args:
        model: a `tfvp.models.htsr.HTSR` without spatial groups.

    Returns:
        A list of (name, variable), in the references' order of creation.
    """
    number = {
        kind: itertools.count()
        for kind in ("conv2d", "dense", "conv2d_transpose", "nvae_conv2d", "squeeze_excite_layer")
    }

    def numbered(kind):
        n = next(number[kind])
        return kind if n == 0 else f"{kind}_{n}"

    def weights(scope, kind, layer):
        name = f"{scope}/{numbered(kind)}"
        return [(f"{name}/kernel", layer.kernel), (f"{name}/bias", layer.bias)]

    def residual_cell(scope, cell):
        if cell is None:
            return []
        pairs = []
        for conv in (cell.conv_a, cell.conv_b):
            pairs += weights(f"{scope}/{numbered('nvae_conv2d')}", "conv2d", conv)
        excite = f"{scope}/{numbered('squeeze_excite_layer')}"
        return pairs + weights(excite, "dense", cell.reduce) + weights(excite, "dense", cell.expand)

    encoder, decoder = model.encoder, model.decoder
    pairs = weights("encoder_convdense", "conv2d", encoder.convs[0])
    pairs += residual_cell("encoder_convdense/resdual_cell_encoder_0", encoder.cell)
    for conv in encoder.convs[1:]:
        pairs += weights("encoder_convdense", "conv2d", conv)
    for dense in model.level_denses:
        pairs += weights("encoder_convdense", "dense", dense)
    for order, level in enumerate(reversed(range(model.levels))):
        cell = model.cells[level]
        scope = f"{'scan' if order == 0 else f'scan_{order}'}/while/cell_{level}"
        if cell.context_dense is not None:
            pairs += weights(scope, "dense", cell.context_dense)
        pairs += weights(scope, "dense", cell.prior_h1)
        gru = f"{scope}/{'gru_cell' if level == 0 else f'gru_cell_{level}'}"
        pairs += [(f"{gru}/{part}", getattr(cell.gru, part)) for part in ("kernel", "recurrent_kernel", "bias")]
        for dense in (cell.prior_h2, cell.prior_mean, cell.prior_stddev):
            pairs += weights(scope, "dense", dense)
        for dense in (cell.posterior_h1, cell.posterior_h2, cell.posterior_mean, cell.posterior_stddev):
            pairs += weights(f"{scope}_1", "dense", dense)
    pairs += weights("decoder_conv", "dense", decoder.dense)
    for conv in decoder.convs:
        pairs += weights("decoder_conv", "conv2d_transpose", conv)
    pairs += residual_cell("decoder_conv/resdual_cell_decoder_0", decoder.cell)
    return pairs + weights("decoder_conv", "conv2d_transpose", decoder.output_conv)


def prefix_of(path):
    """The prefix of a checkpoint's files, given it, its .index file or their folder; None where there is none."""
    path = pathlib.Path(path)
    return tf.train.latest_checkpoint(str(path)) if path.is_dir() else str(path).removesuffix(".index")


def load_checkpoint(model, path):
    """Loads a published checkpoint into a built model.

    Raises:
        UserError: no checkpoint, variables missing or left over, or shapes that differ.
    """
    try:
        reader = tf.train.load_checkpoint(prefix_of(path))
    except (TypeError, ValueError, tf.errors.OpError):
        raise UserError(
            f"{path} is not a TensorFlow checkpoint; give the prefix of its .index file, or the folder"
        ) from None
    shapes = {
        name: tuple(shape)
        for name, shape in reader.get_variable_to_shape_map().items()
        if not any(part in name for part in IGNORED)
    }
    pairs = reference_variables(model)
    missing = [name for name, _ in pairs if name not in shapes]
    extra = sorted(set(shapes) - {name for name, _ in pairs})
    if missing or extra:
        raise UserError(
            f"{path} does not fit the configuration: {_some('it lacks', missing)}{_some('it also has', extra)}; check"
            " model.levels, model.context_residual and model.conv_cells"
        )
    for name, variable in pairs:
        if tuple(variable.shape) != shapes[name]:
            raise UserError(
                f"{path}: {name} has shape {shapes[name]}, the configuration makes it {tuple(variable.shape)}"
            )
    for name, variable in pairs:
        variable.assign(reader.get_tensor(name))


def _some(words, names):
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{words} {', '.join(names[:3])}{more}; "


def import_checkpoint(checkpoint, config, overrides=(), logdir="./logs", name=None):
    """Makes the run of a published checkpoint.

    Args:
        checkpoint: prefix of the checkpoint's files, or their folder.
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
    described = configuration.load(config, overrides).model
    if described.name != "htsr" or described.spatial_groups:
        raise UserError(f"{config} does not describe a published CW-VAE or HTSR; use one of cwvae/..., or kth")
    cells = (RELEASED_CELLS,) if described.conv_cells == "nvae" else ()
    settings = configuration.load(config, [*overrides, *AS_RELEASED, *cells], name)
    model = build_model(settings)
    load_checkpoint(model, checkpoint)
    return write_run(model, settings, logdir, prefix_of(checkpoint))
