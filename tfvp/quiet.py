"""Imports TensorFlow without the lines that it writes to every terminal.

TF_CPP_MIN_LOG_LEVEL=3 turns away what TensorFlow's C++ side has to say later on; what goes wrong there arrives as an
exception in Python anyway. Some lines come before any level counts: while it is imported, TensorFlow 2.21 writes to
file descriptor 2 that it uses oneDNN and that there is no CUDA, as absl's logging is not initialised yet. So the
descriptor leads through a filter during the import alone. The filter is a process of its own: if TensorFlow ends this
process, for want of a CPU instruction, say, its last words still arrive. Lines that are not known are passed on.

With TF_CPP_MIN_LOG_LEVEL set to less, everything that TensorFlow writes at that level is shown, unfiltered.

TensorFlow's builds for x86 have oneDNN's kernels, and turn them on by themselves where the processor has instructions
for neural networks (AVX-512 VNNI, say). Processors with AVX2 alone gain as much by them (docs/benchmarks.md), so they
are turned on there, too; TF_ENABLE_ONEDNN_OPTS=0 in the environment turns them off.

Keras 3 imports matplotlib.pyplot for its gallery of images, which no command uses. It is hidden from it: a fifth of the
processor time of the import, 3.9 s instead of 4.8 s with TensorFlow 2.21.
"""

import contextlib
import os
import platform
import re
import subprocess
import sys

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
WINOGRAD = "TFVP_WINOGRAD"
CHATTER = re.compile(
    r"^(I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I )"  # informational, by TensorFlow's own word
    r"|^To enable the following instructions: "  # second line of such a message
    r"|All log messages before absl::InitializeLog"
    r"|Unable to register cu(DNN|FFT|BLAS) factory|computation_placer.*already registered"
)
DRIVER = "/proc/driver/nvidia/version"


def import_tensorflow():
    """Imports TensorFlow; does nothing where it is imported already."""
    if "tensorflow" in sys.modules:
        return
    prefer_onednn()
    with (
        filtered_errors() if os.environ.setdefault(LEVEL, "3") == "3" else contextlib.nullcontext(),
        hidden("matplotlib"),
    ):
        import tensorflow as tf

        tf.keras.layers  # noqa: B018 - Keras is imported when it is first asked for something
    if os.path.exists(DRIVER) and "CUDA_VISIBLE_DEVICES" not in os.environ:
        if not tf.config.list_physical_devices("GPU"):
            print(f"this machine has an NVIDIA GPU that TensorFlow cannot use; {LEVEL}=0 shows why", file=sys.stderr)


def prefer_onednn():
    """Turns on oneDNN's kernels on x86, unless the environment says otherwise. It counts before TensorFlow's import."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault(ONEDNN, "1")


def onednn():
    """Whether the environment turns oneDNN's kernels on."""
    return os.environ.get(ONEDNN) == "1"


def winograd():
    """Whether the environment leaves Winograd's algorithm on (`tfvp.layers.winograd`)."""
    return os.environ.get(WINOGRAD) != "0"


@contextlib.contextmanager
def hidden(module):
    """A context in which a module that is not imported yet cannot be."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def filtered_errors():
    """A context in which what is written to file descriptor 2 arrives there without CHATTER."""
    sys.stderr.flush()
    try:
        terminal = os.dup(2)
        # In a session of its own Ctrl-C does not reach it; it ends when the command closes its input.
        arguments = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
        reader = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # no descriptor 2, or no more processes: better chatter than no command
        yield
        return
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)  # closes the last end of the pipe
        os.close(terminal)
        reader.wait()


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        if not CHATTER.search(line.decode("utf-8", "replace")):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
