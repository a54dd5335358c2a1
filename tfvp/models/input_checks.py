"""Whether a model takes layers, contexts and frames of a size, and which to use instead."""

from tfvp.errors import UserError


def check_layers(hidden, kernels=None, context=1):
    """Refuses networks that read or compute nothing.

    Args:
        hidden: channels of the layers, `model.hidden`.
        kernels: their kernel sides, `model.kernels`, or None where one side serves all.
        context: observed frames in training, `model.context`.

    Raises:
        UserError: no layer, another number of kernels than of layers, or no observed frame.
    """
    if kernels is not None and len(kernels) != len(hidden):
        raise UserError(f"model.kernels has {len(kernels)} entries and model.hidden {len(hidden)}; give one per layer")
    if not hidden:
        raise UserError("model.hidden is empty; give the channels of one layer or more")
    if context < 1:
        raise UserError(f"model.context={context} must be at least 1")


def check_context(model, frames, name):
    """See `VideoModel.check_context`."""
    multiple = model.context_multiple
    if frames < model.fewest_context:
        raise UserError(
            f"{name}={frames} is too short: {model.registered_name} needs at least"
            f" {model.fewest_context} observed frames"
        )
    if frames % multiple:
        lower = frames // multiple * multiple
        reason = f" ({model.context_multiple_reason})" if model.context_multiple_reason else ""
        raise UserError(f"{name}={frames} is not a multiple of {multiple}{reason}; use {lower} or {lower + multiple}")


def check_clips(model, clips, what):
    """Refuses to predict fewer clips at once than the model can.

    Args:
        model: a `VideoModel`.
        clips: how many different ones.
        what: what has so many, in the words of the user ("eval.batch_size=1").

    Raises:
        UserError: there are fewer than `fewest_clips`.
    """
    if clips < model.fewest_clips:
        raise UserError(
            f"{what} is too few: {model.registered_name} predicts {model.fewest_clips} clips or more at once"
            f" {model.fewest_clips_reason}"
        )


def check_image_size(model):
    """See `VideoModel.check_image_size`."""
    height, width, _ = model.image_shape
    multiple = model.size_multiple
    if height % multiple or width % multiple:
        good = [max(1, round(side / multiple)) * multiple for side in (height, width)]
        raise UserError(
            f"data.image_size: {height} x {width} pixels do not divide by {multiple}, which {model.registered_name}"
            f" needs; use {good[0]} x {good[1]}"
        )
