"""Ask a served model for the future of a video.

examples:
  tfvp client --url http://localhost:8501/v1/models/NAME --model-json RUN/export --video clip.mp4 --horizon 20
  tfvp client --url https://host/v1/models/NAME --token env:TOKEN --ca ca.pem --model-json model.json --video clip.mp4
  tfvp client --grpc host:8500 --model NAME --tls --model-json model.json --video clip.mp4

TF Serving does not hand out the description that an export carries (assets.extra/model.json): how many frames to
observe, and how a video becomes them. It is read from --model-json, or given by flags.
"""

import argparse
import pathlib
import sys

from tfvp import quiet
from tfvp.errors import UserError


def add_arguments(parser):
    parser.add_argument("--url", help="http(s)://host:8501/v1/models/NAME, of the REST interface")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="send the request by gRPC; needs no --url")
    parser.add_argument("--model", metavar="NAME", help="with --grpc: the served model; default: the one in --url")
    parser.add_argument("--video", required=True, help="a video file, a folder of images or an array")
    parser.add_argument(
        "--start", type=int, metavar="FRAME", help="first observed frame, from 0; default: observe the last ones"
    )
    parser.add_argument(
        "--horizon", type=int, help="frames to predict; default: as in the run's evaluation, 10 without --model-json"
    )
    parser.add_argument("--num-samples", type=int, default=1, help="futures side by side, for stochastic models")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling, for stochastic models")
    parser.add_argument(
        "--out",
        help=".mp4, .avi, .gif or .png to draw, or .npy for the predictions alone, uint8 [samples * horizon, H, W, C];"
        " default: <video>_future.mp4 here",
    )
    model = parser.add_argument_group("the model's frames; flags win over --model-json")
    model.add_argument(
        "--model-json", metavar="PATH", help="assets.extra/model.json of the export, or the folder that holds it"
    )
    model.add_argument("--open-loop-ctx", type=int, help="observed frames")
    model.add_argument("--resize", choices=("crop", "area", "squash", "kitti"), help="how frames are resized")
    model.add_argument("--fps", type=float, help="frames per second to resample to; 0 = as they are")
    model.add_argument("--frame-stride", type=int, help="keep every n-th frame")
    access = parser.add_argument_group("the server")
    access.add_argument("--tls", action="store_true", help="encrypt gRPC; REST is encrypted where --url says https")
    access.add_argument("--ca", default="", metavar="FILE", help="certificates (PEM) to check the server's against")
    access.add_argument("--token", metavar="SOURCE", help="env:NAME or file:PATH of a bearer token")
    access.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="NAME=VALUE",
        help="sent with every request; a VALUE env:NAME or file:PATH is read from there",
    )
    access.add_argument("--timeout", type=float, default=60.0, help="seconds for one attempt")
    access.add_argument("--retries", type=int, default=4, help="further attempts while the server is busy or away")


def run(options):
    quiet.import_tensorflow()
    from tfvp.prediction import forecast
    from tfvp.serving import client

    video = pathlib.Path(options.video)
    out = forecast.output_path(options.out, video)
    described = client.read_description(options.model_json) if options.model_json else None
    horizon = options.horizon
    if horizon is None:
        horizon = min(described.horizon, described.max_horizon) if described else 10
    if horizon < 1 or options.num_samples < 1:
        raise UserError("--horizon and --num-samples must be at least 1")
    forecast.check_seed(options.seed)
    if described and horizon > described.max_horizon:
        raise UserError(f"--horizon={horizon} is more than the {described.max_horizon} that the model allows")
    served = client.Client(_server(options))
    context, preprocessing = _frames_of(options, described, served.image_shape)
    more = 0 if options.start is None else horizon
    frames = forecast.observed_frames(preprocessing, video, context, options.start, more)
    observed, truth = frames[:context], None if options.start is None else frames[context:]
    predicted = served.predict(observed[None], horizon, options.seed, options.num_samples)[0]
    forecast.write(out, observed, predicted, preprocessing, truth)
    print(f"written: {out}")


def _server(options):
    from tfvp.serving import transport

    if not (options.url or options.grpc):
        raise UserError("give --url of the REST interface, or --grpc HOST:PORT with --model NAME")
    headers = {name: transport.secret(v, "--header") if _elsewhere(v) else v for name, v in options.header}
    token = transport.secret(options.token, "--token") if options.token else ""
    access = transport.Access(headers, token, options.tls, options.ca, options.timeout, options.retries)
    if options.grpc:
        if not (options.model or options.url):
            raise UserError("--grpc needs --model NAME")
        name, version = (options.model, None) if options.model else transport.model_of(options.url)
        server = transport.Grpc(options.grpc, name, access, version)
    else:
        server = transport.Rest(options.url, access)
    if server.exposed and (token or headers):
        print(
            f"warning: the connection to {server.url} is not encrypted, and everybody on the way can read the token",
            file=sys.stderr,
        )
    return server


def _frames_of(options, described, image_shape):
    """(observed frames, `Preprocessing`) by the model's description and the flags."""
    from tfvp.preprocessing import Preprocessing

    if described is None and (options.open_loop_ctx is None or options.resize is None):
        raise UserError(
            "the server does not say how many frames the model observes and how training resized them; give"
            " --model-json, the assets.extra/model.json of its export, or --open-loop-ctx and --resize"
        )
    *size, channels = image_shape
    values = {"image_size": size, "channels": channels, **(described.preprocessing.to_dict() if described else {})}
    if (*values["image_size"], values["channels"]) != tuple(image_shape):
        told = [*values["image_size"], values["channels"]]
        raise UserError(f"{options.model_json} is of frames {told}, but the served model takes {list(image_shape)}")
    flags = {"resize": options.resize, "fps": options.fps, "frame_stride": options.frame_stride}
    values |= {key: value for key, value in flags.items() if value is not None}
    context = options.open_loop_ctx if options.open_loop_ctx is not None else described.context
    if context < 1:
        raise UserError(f"--open-loop-ctx={context} must be at least 1")
    return context, Preprocessing.from_dict(values)


def _header(text):
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    return name.strip(), value.strip()


def _elsewhere(value):
    return value.startswith(("env:", "file:"))
