"""Commands as a user types them, and a tiny run to try them on."""

import subprocess
import sys

from tests.golden import ROOT

TINY = """
# Tests only.
model: {name: convlstm_openstl, hidden: [6], kernel: 3, patch: 4, context: 4, sampling_rate: 0.05}
data: {name: moving_mnist, image_size: 32}
train: {epochs: 3, steps_per_epoch: 12, batch_size: 4, seq_len: 8, validation_examples: 4, gif_examples: 1,
        ema_decay: 0.5,
        learning_rate: 0.01}
eval: {open_loop_ctx: 4, eval_seq_len: 8, num_examples: 6, batch_size: 4, metrics: [mse, psnr, ssim]}
"""


def command(script, *arguments):
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result


def sentence_of(status, said):
    """The sentence that a command ended with; no stack trace, exit status 2."""
    assert status == 2 and "Traceback" not in said, said[-4000:]
    assert [line for line in said.splitlines() if line.startswith("error: ")], said
    return said[said.index("error: ") :]


def weights(run, which="last"):
    import h5py

    found = {}
    with h5py.File(run / "model" / f"{which}.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found
