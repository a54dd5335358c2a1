"""Where the weights of a training run begin, if not at random values."""

from tqdm import tqdm

from tfvp.errors import UserError
from tfvp.models import build, named_weights


def check(settings):
    """Checks the options `train.initial_weights` and `train.initial_weights_skip`.

    Raises:
        UserError: there is something to skip, but nothing to start from.
    """
    if settings.initial_weights_skip and not settings.initial_weights:
        raise UserError("train.initial_weights_skip leaves out some of train.initial_weights, which names no weights")


def start_from(settings, model):
    """Gives a built model the weights that `train.initial_weights` names, if it names any.

    To be called in the scope of the strategy, before averages of the weights are made.

    Args:
        settings: `config.train`.
        model: a built model.

    Raises:
        UserError: there are no such weights, or a sentence for each variable that does not fit.
    """
    source = settings.initial_weights
    if not source:
        return
    skipped = named_weights.assign(model, build.read_weights(source), source, settings.initial_weights_skip)
    kept = f"; {len(skipped)} variables keep their random ones: {', '.join(skipped[:4])}" if skipped else ""
    more = f" and {len(skipped) - 4} more" if len(skipped) > 4 else ""
    tqdm.write(f"starting from the weights of {source}{kept}{more}")
