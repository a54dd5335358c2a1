"""Ask a served model for the future of a video.

example:
  tfvp client --url http://host:8501/v1/models/NAME --video clip.mp4 --horizon 20
"""

import pathlib

from tfvp import quiet
from tfvp.errors import UserError


def add_arguments(parser):
    parser.add_argument("--url", required=True, help="http://host:8501/v1/models/NAME")
    parser.add_argument("--grpc", help="host:8500, to send the request by gRPC")
    parser.add_argument("--video", required=True, help="a video file, a folder of images or an array")
    parser.add_argument("--open-loop-ctx", type=int, default=10, help="observed frames")
    parser.add_argument("--horizon", type=int, default=10, help="frames to predict")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling, for stochastic models")
    parser.add_argument("--out", help=".mp4, .avi, .gif, .png or .npy to write; default: <video>_future.mp4")


def run(options):
    quiet.import_tensorflow()
    from tfvp import video_io
    from tfvp.evaluation import pictures
    from tfvp.serving import client

    url, video = options.url.rstrip("/"), pathlib.Path(options.video)
    (height, width, channels), seeded = client.frame_shape(url)
    frames = video_io.read_video(video, (height, width), channels)[: options.open_loop_ctx]
    if len(frames) < options.open_loop_ctx:
        raise UserError(f"{video} has {len(frames)} frames, fewer than --open-loop-ctx {options.open_loop_ctx}")
    if options.grpc:
        name = url.rsplit("/", 1)[-1]
        future = client.predict_grpc(options.grpc, name, frames[None], options.horizon, options.seed, seeded)
    else:
        future = client.predict(url, frames[None], options.horizon, options.seed, seeded)
    out = pathlib.Path(options.out) if options.out else video.with_name(f"{video.stem}_future.mp4")
    video_io.write_video(out, future[0] if out.suffix == ".npy" else pictures.futures(frames, future), fps=8.0)
    print(f"written: {out}")
