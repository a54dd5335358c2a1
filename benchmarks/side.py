"""One of two programs that are timed in turns: `python side.py FILE ADAPTER`, which reads and writes lines of JSON.

It needs nothing but Python, so that the reference's Python need not have tfvp. The file defines classes
by name, the adapters: `ADAPTER(folder, sizes)` has `train()` and `rollout()`, each of which returns a
function that makes one step, or one rollout, and gives back a number once it is done; and `facts()`, a dict with
"parameters" and "library".

The first line says {"call": "train" or "rollout", "folder": ..., "sizes": {...}}; every line {} after it asks for one
call, and the end of the input for the end. A call is answered with its seconds by the clock and of the processor, and
with the peak memory of the process so far; a failure with {"missing": module} or {"error": sentence}.
"""

import importlib.util
import json
import os
import resource
import sys
import time
import traceback


def main(file, name):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anything prints goes elsewhere
    try:
        for answer in _answers(file, name):
            answers.write(json.dumps(answer) + "\n")
    except ModuleNotFoundError as error:
        answers.write(json.dumps({"missing": error.name}) + "\n")
    except Exception as error:
        traceback.print_exc()
        said = " ".join(f"{type(error).__name__}: {error}".split())
        answers.write(json.dumps({"error": said[:300]}) + "\n")


def _answers(file, name):
    request = json.loads(sys.stdin.readline())
    spec = importlib.util.spec_from_file_location("adapter", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    adapter = getattr(module, name)(request["folder"], request["sizes"])
    call = getattr(adapter, request["call"])()
    yield {**_timed(call), "facts": adapter.facts()}
    for _ in sys.stdin:
        yield _timed(call)


def _timed(call):
    before, began = time.process_time(), time.perf_counter()
    value = float(call())
    seconds, processor = time.perf_counter() - began, time.process_time() - before
    return {"seconds": seconds, "processor": processor, "value": value, "MB": _peak_megabytes()}


def _peak_megabytes():
    """The largest resident size of this process. getrusage's would be that of the parent, if that was larger."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on a Mac


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose models.py would hide a reference's
    main(*sys.argv[1:])
