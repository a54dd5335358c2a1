"""What commands print that others read."""

import os
import sys


def show(text):
    """Prints text; a reader that has had enough, as in `tfvp list models | head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
