"""What an evaluation's flags do before any frame is predicted."""

import pytest

from tfvp import config, registry
from tfvp.errors import UserError
from tfvp.evaluation import evaluator


def small(name, label=""):
    cls = registry.lookup("model", name)
    return cls(cls.small_image_shape, **cls.small_variants[label])


def test_levels_are_switched_by_letters():
    model = small("htsr", "cwvae")
    evaluator.switch_levels(model, "Tf")
    assert model.use_obs == [True, False]
    for wrong in ("T", "TTT", "TX"):
        with pytest.raises(UserError, match="each of 2 levels, bottom first: TT"):
            evaluator.switch_levels(model, wrong)
    with pytest.raises(UserError, match="is for hierarchical models"):
        evaluator.switch_levels(small("convlstm_keras", ""), "TT")


def test_drawn_clips_become_as_long_as_they_are_evaluated():
    loaded = config.from_dict({"data": {"name": "moving_mnist"}})
    assert evaluator.data_config(loaded, frames=300).data.clip_length == 300
    assert evaluator.data_config(loaded, frames=15).data.clip_length == loaded.data.clip_length
    assert evaluator.data_config(loaded, "/data", 15).data.root == "/data"
    of_files = config.from_dict({"data": {"name": "human36m"}})
    assert evaluator.data_config(of_files, frames=300).data.clip_length == 8
    segments = config.from_dict({"data": {"name": "kth", "segments": True}})
    assert evaluator.data_config(segments, frames=40).data.segments
    assert not evaluator.data_config(segments, frames=40, windows="srvp").data.segments


def test_protocols_are_fixed_but_for_clips_and_samples():
    loaded = config.from_dict({"data": {"name": "mmnist_long"}})
    protocol = evaluator.choose_protocol(loaded, "htsr_264", num_examples=3, num_samples=2)
    assert (protocol.context, protocol.seq_len, protocol.num_examples, protocol.samples) == (36, 300, 3, 2)
    with pytest.raises(UserError, match="htsr_264 fixes --open-loop-ctx at 36"):
        evaluator.choose_protocol(loaded, "htsr_264", open_loop_ctx=12)
    with pytest.raises(UserError, match="is defined on data set stochastic_mnist"):
        evaluator.choose_protocol(loaded, "svg_smmnist")
    longer = evaluator.choose_protocol(loaded, open_loop_ctx=36)
    assert longer.seq_len == 36 + loaded.eval.eval_seq_len - loaded.eval.open_loop_ctx
