"""The documentation: generated pages are current, and what pages name exists."""

import importlib.util
import math
import re
import shlex

import pytest

from tests.golden import ROOT
from tfvp import cli

DOCS = ROOT / "docs"
WRITTEN = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.fixture(scope="module")
def generator():
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generator):
    return generator.pages()


@pytest.mark.parametrize("name", ["models.md", "configs.md", "datasets.md", "metrics.md", "options.md", "trained.md"])
def test_generated_pages_are_current(pages, name):
    assert set(pages) == {"models.md", "configs.md", "datasets.md", "metrics.md", "options.md", "trained.md"}
    assert (DOCS / name).read_text(encoding="utf-8") == pages[name], "run: python docs/generate.py"


def test_parameters_of_every_configuration_are_counted(generator):
    wanted = {generator.fingerprint(entry.config): entry.name for entry in generator.read_configs()}
    counts = generator.read_counts()
    missing = [name for key, name in wanted.items() if key not in counts]
    assert not missing and set(counts) == set(wanted), f"run: python docs/generate.py --count ({missing})"


def test_a_count_is_that_of_the_built_model(generator):
    import tfvp

    entry = next(entry for entry in generator.read_configs() if entry.name == "simvp/tiny")
    model = tfvp.build_model(entry.config)
    count = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert generator.read_counts()[generator.fingerprint(entry.config)] == count == 1_040_129


def test_prose_means_nothing_to_markdown(generator):
    written = generator.prose("a*b <i> `x*y` __z http://a.org/b. arXiv 1234.56789")
    assert written == (
        r"a\*b &lt;i> `x*y` \_\_z <http://a.org/b>. [arXiv 1234.56789](https://arxiv.org/abs/1234.56789)"
    )


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_links_and_configurations_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r'<img src="([^"]+)"', text)
    for target in links:
        assert target.startswith("http") or (page.parent / target).exists(), target
    invented = {"change/mmnist", "NAME"}  # of the recipe that makes it, and of a sentence
    for name in re.findall(r"--config (?:\./)?(?:configs/)?([\w/]+)", text):
        assert name in invented or (ROOT / "configs" / f"{name}.yml").is_file(), name


def commands(page):
    """The lines of a page's code blocks that call tfvp or one of its scripts, split into words."""
    text = re.sub(r"^ *```", "```", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for block in ("\n" + text).split("\n```")[1::2]:
        for line in block.replace("\\\n", " ").splitlines()[1:]:
            if call := re.search(r"(?:^|\s)(tfvp|python (?:train|eval_with_lpips|data_loader)\.py) .*", line):
                yield shlex.split(call[0].rstrip("'"), comments=True)  # the end of what bash -c is given


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_commands_have_the_flags_that_pages_show(page):
    scripts = {"train.py": "train", "data_loader.py": "data"}
    for words in commands(page):
        if words[0] == "tfvp":
            cli.build_parser().parse_args(words[1:])
        elif words[1] in scripts:
            cli.script_parser(scripts[words[1]]).parse_args(words[2:])
        else:
            assert words[1] == "eval_with_lpips.py"
            source = (ROOT / words[1]).read_text(encoding="utf-8")
            known = {*re.findall(r'"(--[\w-]+)"', source), *cli.script_parser("evaluate")._option_string_actions}
            assert {word for word in words if word.startswith("--")} <= known, words


def test_there_are_commands_to_check():
    assert sum(1 for page in WRITTEN for _ in commands(page)) > 50
