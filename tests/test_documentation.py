"""Promises of the front door: names of the package itself, pages that exist, commands and code that run as written."""

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from PIL import Image

import humansd
from humansd.cli import build_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), ROOT / "examples" / "README.md"]


def fences(page, language):
    """The text of the page's code blocks of one language ("" where none is named)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def named_in(nav):
    """Every file that mkdocs' navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [name for part in parts for name in named_in(part)]


def test_the_package_itself_loads_nothing_heavy():
    heavy = ("torch", "numpy", "cv2", "PIL", "diffusers", "transformers")
    code = f"import sys, humansd; print(dir(humansd)); print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert all(repr(name) in names for name in humansd.__all__)


def test_the_packages_own_names_are_those_of_the_rooms():
    from humansd import HumanSDPipeline, People, load_pipeline, read_poses
    from humansd.inference import pretrained
    from humansd.pipelines import humansd as pipelines
    from humansd.pose import formats, people

    assert HumanSDPipeline is pipelines.HumanSDPipeline
    assert People is people.People
    assert load_pipeline is pretrained.load_pipeline
    assert read_poses is formats.read_poses
    with pytest.raises(AttributeError, match="'humansd' has no attribute 'Peple'"):
        _ = humansd.Peple


def test_the_navigation_names_every_page_and_no_other():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = named_in(config["nav"])
    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert (ROOT / config["docs_dir"]).samefile(DOCS)


def test_pages_show_modules_and_files_that_exist():
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        for module in re.findall(r"^::: (\S+)", text, re.MULTILINE):
            assert importlib.util.find_spec(module) is not None, f"{page.name}: no module {module}"
        for shown, section in re.findall(r'^--8<-- "([^":]+)(?::(\w+))?"', text, re.MULTILINE):
            assert (ROOT / shown).is_file(), f"{page.name}: no file {shown}"
            assert not section or section.isdigit() or f"[start:{section}]" in (ROOT / shown).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[\w+\]: (\S+)$", text, re.MULTILINE)
    files = [target.partition("#")[0] for target in targets if not re.match(r"https?:|#", target)]
    assert [name for name in files if not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_parse_as_written(page):
    parser = build_parser()
    for block in fences(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("humansd "):
                continue
            try:
                parser.parse_args(shlex.split(line, comments=True)[1:])
            except SystemExit:
                pytest.fail(f"{page.name}: {line}")


@pytest.mark.parametrize("page", [ROOT / "ARCHITECTURE.md", DOCS / "decisions.md"], ids=lambda page: page.name)
def test_maps_name_rooms_and_files_that_exist(page):
    package = ROOT / "src" / "humansd"
    rooms = {folder.name for folder in package.iterdir() if (folder / "__init__.py").exists()}
    missing = []
    for name in re.findall(r"`([\w./]+)`", page.read_text()):
        path = package / name
        room, _, rest = name.partition(".")
        if name.endswith(".py"):
            missing += [] if "/" not in name or path.exists() else [name]
        elif room in rooms and rest:
            module = package / room / rest.partition(".")[0]
            missing += [] if module.with_suffix(".py").exists() or module.is_dir() else [name]
    assert not missing


def test_code_on_pages_compiles():
    blocks = [(page, block) for page in PAGES for block in fences(page, "python")]
    assert len(blocks) >= 4
    for page, block in blocks:
        compile(block, str(page), "exec")


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    (block,) = fences(ROOT / "README.md", "python")
    assert len(block.splitlines()) <= 10
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    with Image.open("walking.png") as image:
        assert image.size == (128, 128)
        assert len(image.getcolors(128 * 128) or []) > 500  # an image, not one color


def test_the_code_that_writes_own_shards_runs(tmp_path, monkeypatch, capsys):
    (block,) = fences(DOCS / "guides" / "data.md", "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "data.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.count("two shoulders") == 4


def test_hooks_and_hosted_tests_call_what_make_calls():
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in makefile.splitlines() if line.startswith("\t")]
    assert [hook["entry"] for hook in hooks if hook["entry"] not in lint] == []
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert steps
    assert all(step.split()[0] == "make" and step.split()[1] in targets for step in steps)


def test_version_and_licence_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_front_pages_stay_short():
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in ("README.md", "CONTRIBUTING.md")}
    assert lines["README.md"] <= 100
    assert lines["CONTRIBUTING.md"] <= 40
