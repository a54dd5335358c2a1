"""Imports TensorFlow without the lines that it always writes to a terminal.

While it is imported, and when it first looks for devices, TensorFlow says from C++ that it uses oneDNN, that CUDA
libraries registered twice, that there is no GPU. TF_CPP_MIN_LOG_LEVEL turns away part of that; TensorFlow 2.21 writes
the rest before absl's logging is initialised, straight to file descriptor 2, whatever the level. So the descriptor
leads through a filter during these two steps alone. The filter is a process of its own: if TensorFlow ends this
process, for want of a CPU instruction, say, its last words still arrive. Lines that are not known are passed on.
"""

import os
import re
import subprocess
import sys

CHATTER = re.compile(
    r"^(I\d{4} |\d{4}-\d\d-\d\d [\d:.]+: I )"  # informational, by TensorFlow's own word
    r"|^To enable the following instructions: "  # second line of such a message
    r"|All log messages before absl::InitializeLog"
    r"|Unable to register cu(DNN|FFT|BLAS) factory|computation_placer.*already registered"
    r"|TF-TRT Warning: Could not find TensorRT|Could not find cuda drivers"
    r"|failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)"  # no driver, no GPU: nothing is wrong
)


def import_tensorflow():
    """Imports TensorFlow and looks for devices; what is no chatter is shown. Does nothing where it is imported."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors are shown, warnings and information are not
    sys.stderr.flush()
    try:
        terminal = os.dup(2)
        # A session of its own: Ctrl-C is for the command, which then ends the filter by closing its input.
        arguments = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
        reader = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # no descriptor 2, no more processes: better chatter than no command
        import tensorflow  # noqa: F401

        return
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
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
