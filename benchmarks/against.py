"""A reference's own training step and rollout beside ours: tfvp benchmark against DIR --reference svg

DIR has the reference's code, and `--python` a Python that has PyTorch and whatever else that code imports. Each side is
a process of its own; they wait for each other and are timed in turns, on noise of the same shapes in batches of
the same size, so that whatever else the machine does slows both. The ratio is the reference's time over ours: above 1,
ours is faster. "Processor" is the same ratio of processor time (user and system). Memory is the peak of each process.
"Start" is the time from the start of a process to the end of its first call, in which graphs are traced.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from tfvp import config
from tfvp import run as runs
from tfvp.errors import UserError

from . import choice, clockwork_reference, references

HERE = pathlib.Path(__file__).resolve().parent
KNOWN = (references, clockwork_reference)
COLUMNS = ["model", "what", "parameters: reference, ours", "ours s", "reference over ours: min", "median", "max"]
COLUMNS += ["processor: median", "peak MB: reference, ours", "start s: reference, ours"]


def run(options):
    file, cases = _cases(options.reference)
    cases = choice.chosen(cases, options.only, lambda case: case["name"])
    for case in cases:
        if not (pathlib.Path(options.folder) / case["file"]).is_file():
            where = f"; get the code from {case['home']}" if "home" in case else ""
            raise UserError(f"{options.folder} has no {case['file']}, by which {case['name']} is known{where}")
    here = runs.describe_environment([])
    print(f"commit {here['commit']}, {here['processor']}, {here['cores']} cores, {options.rounds} rounds")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    libraries = set()
    for case in cases:
        for call in case["calls"]:
            if options.call in (None, call):
                ours, theirs = measure(file, case, call, options)
                libraries.update((theirs[0]["facts"]["library"], ours[0]["facts"]["library"]))
                print(row(case, call, ours, theirs), flush=True)
    print(", ".join(sorted(libraries)))


def measure(file, case, call, options):
    """(answers of our side, answers of the reference's): of the first call, then of one per round, in turns."""
    loaded = config.load(case["config"], options.overrides)
    size = loaded.data.image_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    sizes = {
        "batch": options.batch or case["batch"],
        "frames": loaded.train.seq_len,
        "context": loaded.eval.open_loop_ctx,
        "horizon": options.horizon or case["horizon"],
        "samples": case["samples"],
        "height": height,
        "width": width,
        "channels": loaded.data.channels,
    }
    own = {"config": case["config"], "overrides": list(options.overrides), "chunk": loaded.eval.chunk}
    with contextlib.ExitStack() as stack:
        ours = Side([sys.executable], HERE / "ours.py", "Ours", {"PYTHONPATH": _path_of_tfvp()})
        theirs = Side([options.python], file, case["adapter"], {})
        answers = []
        for side, more in ((ours, own), (theirs, {})):
            request = {"call": call, "folder": str(pathlib.Path(options.folder).resolve()), "sizes": sizes | more}
            answers.append([stack.enter_context(side).ask(request)])
            answers[-1][0]["start"] = time.perf_counter() - side.began
        for number in range(options.rounds):
            turns = ((ours, answers[0]), (theirs, answers[1]))
            for side, found in turns if number % 2 else reversed(turns):
                found.append(side.ask({}))
    return answers


def row(case, call, ours, theirs):
    """A line of the table."""
    ratios, processor = (
        [there[key] / here[key] for here, there in zip(ours[1:], theirs[1:])] for key in ("seconds", "processor")
    )
    median = statistics.median(one["seconds"] for one in ours[1:])
    (first_here, last_here), (first_there, last_there) = ((found[0], found[-1]) for found in (ours, theirs))
    cells = [case["name"], call, f"{first_there['facts']['parameters']:,}, {first_here['facts']['parameters']:,}"]
    cells += [f"{median:.3g}", f"{min(ratios):.2f}", f"{statistics.median(ratios):.2f}", f"{max(ratios):.2f}"]
    cells += [f"{statistics.median(processor):.2f}"]
    cells += [
        f"{last_there['MB']:,.0f}, {last_here['MB']:,.0f}",
        f"{first_there['start']:.1f}, {first_here['start']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


class Side:
    """One of the two processes, as a context manager; see `side.py`.

    Args:
        python: the command of its Python.
        file, adapter: where the adapter is, and its name.
        environment: {variable: value} beside those of this process.
    """

    def __init__(self, python, file, adapter, environment):
        self.command = [*python, str(HERE / "side.py"), str(file), adapter]
        self.python, self.environment = python[0], {**os.environ, **environment}

    def __enter__(self):
        self.errors = tempfile.TemporaryFile()
        self.began = time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors, "text": True}
        try:
            self.process = subprocess.Popen(self.command, env=self.environment, **pipes)
        except OSError as error:
            self.errors.close()
            raise UserError(
                f"{self.python} cannot be started ({error.strerror}); name a Python with --python"
            ) from None
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def ask(self, request):
        """The answer to a request.

        Raises:
            UserError: the process cannot import something, or failed.
        """
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words follow
        answer = json.loads(self.process.stdout.readline() or "{}")
        if "missing" in answer:
            name = answer["missing"]
            raise UserError(
                f"{self.python} has no module {name}; install it there, or name with --python one that has PyTorch and"
                " what the reference's code imports"
            )
        if "seconds" not in answer:
            raise UserError(f"{self.command[-1]} failed in {self.python}: {answer.get('error') or self._last_words()}")
        return answer

    def _last_words(self):
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        said = f"; its last words: {lines[-1]}" if lines else ""
        return f"it ended with status {self.process.returncode}{said}"


def _cases(name):
    """(file of the adapters, cases) of a reference by its name, or of a file of adapters."""
    for module in KNOWN:
        if name in module.CASES:
            return module.__file__, module.CASES[name]
    path = pathlib.Path(name).resolve()
    if not path.is_file():
        known = ", ".join(name for module in KNOWN for name in module.CASES)
        raise UserError(
            f"--reference {name} is neither one of {known}, nor a file of adapters; see {references.__file__}"
        )
    spec = importlib.util.spec_from_file_location("adapters", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return path, [case for cases in module.CASES.values() for case in cases]
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} imports {error.name}, which tfvp's own Python has not; import it inside of the adapters, as only"
            f" the Python of --python runs these; see {references.__file__}"
        ) from None
    except Exception as error:
        reason = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else error
        raise UserError(
            f"{path} is no file of adapters ({type(error).__name__}: {reason}); correct it, see {references.__file__}"
        ) from None


def _path_of_tfvp():
    import tfvp

    root = str(pathlib.Path(tfvp.__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
