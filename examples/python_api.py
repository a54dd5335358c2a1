"""tfvp from Python: train a small model, load it, and predict with and without an end.

python examples/python_api.py                       # a few minutes on two CPU cores
python examples/python_api.py --steps 20            # to see it run
"""

import argparse

import numpy as np

import tfvp
from tfvp import config, video_io
from tfvp.datasets.build import build_dataset
from tfvp.training import loop


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", default="./logs", help="folder of runs")
    parser.add_argument("--steps", type=int, default=300, help="optimizer updates")
    parser.add_argument("--hidden", type=int, default=32, help="channels of the two ConvLSTM layers")
    options = parser.parse_args(arguments)

    # A configuration is a nested dict of what differs from configs/base.yml. `config.load` reads one from a file.
    settings = config.from_dict(
        {
            "model": {"name": "convlstm_openstl", "hidden": [options.hidden] * 2, "kernel": 3},
            "data": {"name": "moving_mnist", "image_size": 32},
            "train": {"epochs": 1, "steps_per_epoch": options.steps, "batch_size": 8, "validation_examples": 8},
        },
        name="python_api",
    )

    # `build_model` gives a built model with fresh weights; a Keras model, with Keras's methods.
    model = tfvp.build_model(settings)
    print(f"{settings.model.name}: {model.count_params():,} parameters for frames of {model.image_shape}")

    # `train` writes a run and resumes it when it is called again; `load_run` gives the model with its best weights.
    run = loop.train(settings, options.logdir)
    model = tfvp.load_run(run.path)

    # Clips are uint8 [T, H, W, C]; models take float32 [B, T, H, W, C] in [0, 1].
    clip = next(iter(build_dataset(settings).load("test", length=20)))["video"].numpy()
    context = clip[None, :10].astype(np.float32) / 255.0

    # `observe` turns frames into a state, `imagine` a state into frames and the state after them.
    state = model.observe(context)
    first, state = model.imagine(state, 10)
    second, state = model.imagine(state, 10)

    # Observing in parts is the same as observing at once, so a stream of frames is never read twice.
    in_parts = model.observe(context[:, 6:], state=model.observe(context[:, :6]))
    again, _ = model.imagine(in_parts, 10)
    print(f"largest difference between observing at once and in parts: {np.abs(first - again).max():.1e}")

    # `rollout` does all of this in chunks, in constant memory for any horizon: here the same twenty frames, and more.
    chunks = list(model.rollout(context, horizon=60, chunk=20))  # [B, samples, n, H, W, C] each
    together = np.concatenate([first, second], axis=1)
    print(f"largest difference between imagine and rollout: {np.abs(together - chunks[0][:, 0]).max():.1e}")

    error = np.mean((np.clip(first, 0, 1) - clip[None, 10:] / 255.0) ** 2)
    path = run.path / "future.gif"
    video_io.write_video(path, np.concatenate([context[0], *(np.clip(chunk[0, 0], 0, 1) for chunk in chunks)]))
    print(f"mean squared error of ten predicted frames: {error:.4f}\nten observed and sixty predicted frames: {path}")


if __name__ == "__main__":
    main()
