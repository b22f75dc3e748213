"""The rules of the house that a machine can check; see CONTRIBUTING.md."""

import ast
import glob
import os
import re

import pytest

from conftest import ROOT

FLOORS = (("support",), ("reader", "pix2pix"), ("train",), ("studies", "tools", "demo", "tests"))  # from the ground up


def imported(path):
    """Returns the first parts of the names of all modules that a file imports; `program` is train.py to the studies."""
    with open(path, encoding="utf-8") as file:
        nodes = list(ast.walk(ast.parse(file.read())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.split(".")[0] for name in names}


def files_of(floor):
    paths = [os.path.join(ROOT, name + ".py") for name in floor] + [
        path for name in floor for path in glob.glob(os.path.join(ROOT, name, "*.py"))]
    return [path for path in paths if os.path.exists(path)]


@pytest.mark.parametrize("i", range(len(FLOORS) - 1), ids=lambda i: "-".join(FLOORS[i]))
def test_imports_point_down_only(i):
    above = {name for floor in FLOORS[i + 1:] for name in floor}
    above |= {os.path.basename(path)[:-3] for path in files_of(FLOORS[-1])}
    assert files_of(FLOORS[i])
    for path in files_of(FLOORS[i]):
        assert not imported(path) & above, path


def test_reader_and_pix2pix_do_not_know_each_other():
    assert "pix2pix" not in imported(os.path.join(ROOT, "reader.py"))
    assert "reader" not in imported(os.path.join(ROOT, "pix2pix.py"))


def uses_flags(source):
    """Whether Python source names absl's FLAGS or defines a flag; whatever is a comment or a docstring does not."""
    names = {getattr(node, field, None) for node in ast.walk(ast.parse(source))
             for field in ("id", "attr", "name", "value")}  # of a name, an attribute, an import and a string
    return any(isinstance(name, str) and (name == "FLAGS" or name.startswith("DEFINE_")) for name in names)


@pytest.mark.parametrize("source,uses", [
    ("print(FLAGS.ngf)", True), ("print(FLAGS['ngf'].value)", True), ("print(train.FLAGS.ngf)", True),
    ("from absl.flags import FLAGS as given", True), ("getattr(flags, 'FLAGS')", True), ("call(FLAGS)", True),
    ("flags.DEFINE_integer('ngf', 64, '')", True), ("tf.app.flags.DEFINE_bool('flip', True, '')", True),
    ("from absl.flags import DEFINE_bool", True), ("from absl import flags\nraise flags.Error", False),
    ("def f(flag_values): 'Reads no FLAGS.ngf.'  # FLAGS.ngf", False)])
def test_a_use_of_flags_is_seen_in_every_form(source, uses):
    assert uses_flags(source) == uses


def test_only_train_py_defines_or_reads_flags():
    for path in [path for floor in FLOORS[:3] for path in files_of(floor)]:
        with open(path, encoding="utf-8") as file:
            assert uses_flags(file.read()) == (os.path.basename(path) == "train.py"), path


PAGES = sorted(glob.glob(os.path.join(ROOT, "*.md")) + glob.glob(os.path.join(ROOT, "*", "*.md")))


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    with open(page, encoding="utf-8") as file:
        headings = re.findall(r"^#+ (.*)$", file.read(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: os.path.relpath(path, ROOT))
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page):
    with open(page, encoding="utf-8") as file:
        text = re.sub(r"^    .*$|`[^`]*`", "", file.read(), flags=re.MULTILINE)  # without code
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            target = os.path.join(os.path.dirname(page), path) if path else page
            assert os.path.exists(target), link
            assert not anchor or anchor in anchors_of(target), link
