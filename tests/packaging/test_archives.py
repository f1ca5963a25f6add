"""What wheels/packing.py packs again, and what wheels/check_dist.py finds wrong with it."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

WHEELS = Path(__file__).resolve().parents[2] / "wheels"


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, WHEELS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packing() -> types.ModuleType:
    return load("packing")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files, one of them executable."""
    tree = tmp_path / "tree"
    (tree / "pkg").mkdir(parents=True)
    (tree / "pkg" / "module.py").write_text("x = 1\n")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    return tree


def age(tree: Path) -> list[Path]:
    """Other dates and permissions; the files in another order."""
    files = sorted((path for path in tree.rglob("*") if path.is_file()), reverse=True)
    for file in (*files, tree / "pkg"):
        os.utime(file, (1_500_000_000, 1_500_000_000))
        file.chmod(file.stat().st_mode & 0o700)
    return files


def write_tar(path: Path, tree: Path, files: list[Path]) -> bytes:
    with tarfile.open(path, "w:gz") as archive:
        for file in files:
            archive.add(file, file.relative_to(tree).as_posix())
    return path.read_bytes()


def write_zip(path: Path, tree: Path, files: list[Path]) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tree / "pkg", "pkg")  # a folder, as auditwheel has them
        for file in files:
            archive.write(file, file.relative_to(tree).as_posix())
    return path.read_bytes()


@pytest.mark.parametrize(("write", "pack"), [(write_tar, "pack_tar"), (write_zip, "pack_zip")])
def test_same_files_are_packed_to_the_same_bytes(
    packing: types.ModuleType,
    tree: Path,
    write: Callable[[Path, Path, list[Path]], bytes],
    pack: str,
) -> None:
    one, other = tree.parent / "one", tree.parent / "other"
    before = write(one, tree, sorted(path for path in tree.rglob("*") if path.is_file()))
    assert write(other, tree, age(tree)) != before
    for path in (one, other):
        getattr(packing, pack)(path)
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tree.parent.iterdir()) == ["one", "other", "tree"]


def test_what_was_packed_again_holds_the_same_files(packing: types.ModuleType, tree: Path) -> None:
    files = age(tree)
    wheel, sdist = tree.parent / "wheel", tree.parent / "sdist"
    write_zip(wheel, tree, files)
    write_tar(sdist, tree, files)
    packing.pack_zip(wheel)
    packing.pack_tar(sdist)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("pkg/module.py") == b"x = 1\n"
        modes = {each.filename: each.external_attr >> 16 & 0o777 for each in archive.infolist()}
    assert modes == {"pkg/module.py": 0o644, "run": 0o755}
    with tarfile.open(sdist) as tar:
        assert {each.name: each.mode for each in tar} == modes
        member = tar.extractfile("run")
        assert member is not None
        assert member.read() == b"#!/bin/sh\n"


@pytest.mark.parametrize(("date", "seconds"), [("1700000000", 1_700_000_000), ("", 1577836800)])
def test_the_date_of_all_files_can_be_given(
    packing: types.ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, date: str, seconds: int
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
    sdist = tree.parent / "sdist"
    write_tar(sdist, tree, age(tree))
    packing.pack_tar(sdist)
    with tarfile.open(sdist) as tar:
        assert {each.mtime for each in tar} == {seconds}


@pytest.mark.parametrize("seconds", [0, 2**32 - 1])
def test_a_date_that_zip_files_can_not_express_is_the_first_that_they_can(
    packing: types.ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(seconds))
    wheel, sdist = tree.parent / "wheel", tree.parent / "sdist"
    write_zip(wheel, tree, age(tree))
    write_tar(sdist, tree, age(tree))
    packing.pack_zip(wheel)
    packing.pack_tar(sdist)
    with zipfile.ZipFile(wheel) as archive:
        assert {each.date_time[0] for each in archive.infolist()} == {1980 if not seconds else 2106}
    with tarfile.open(sdist) as tar:
        assert {each.mtime for each in tar} == {seconds}


@pytest.mark.parametrize("date", [" ", "yesterday", "-1", str(2**32)])
@pytest.mark.parametrize("build", ["build_sdist", "build_wheel"])
def test_a_date_that_is_none_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, date: str
) -> None:
    pytest.importorskip("setuptools")
    monkeypatch.syspath_prepend(WHEELS)
    backend = load("backend")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
    monkeypatch.chdir(tmp_path)  # where there is nothing to build
    with pytest.raises(SystemExit, match=f"^fastpool: SOURCE_DATE_EPOCH .* not '{date}'$"):
        getattr(backend, build)(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


# --- what was packed, compared with the tree ------------------------------------------------------

ABOUT = "fastpool-1.dist-info"
NATIVE = "cpython-313-x86_64-linux-gnu.so"
TREE = {
    "LICENSE": "Do with it what you like.\n",
    "setup.py": "import setuptools\n",
    "src/fastpool/__init__.py": "x = 1\n",
    "src/fastpool/py.typed": "",
    "src/fastpool/_core/__init__.py": "",
    "src/fastpool/_core/_segment.pyi": "x: int\n",
    "src/fastpool/_core/_segment.pyx": "x = 1\n",
    "src/fastpool/_core/_segment.pxd": "cdef int x\n",
}
GOOD = {
    "fastpool/__init__.py": "x = 1\n",
    "fastpool/py.typed": "",
    "fastpool/_core/__init__.py": "",
    "fastpool/_core/_segment.pyi": "x: int\n",
    f"fastpool/_core/_segment.{NATIVE}": "native",
    f"fastpool/_core/_cython.{NATIVE}": "native",
    f"{ABOUT}/METADATA": "Name: fastpool\nVersion: 1\n",
    f"{ABOUT}/RECORD": "",
    f"{ABOUT}/WHEEL": "",
    f"{ABOUT}/top_level.txt": "fastpool\n",
    f"{ABOUT}/licenses/LICENSE": TREE["LICENSE"],
}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A tree like this one, unpacked from an sdist, with a folder for what is packed."""
    for name, text in TREE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in ("tree/wheels", "dist"):
        (tmp_path / folder).mkdir()
    shutil.copy(WHEELS / "check_dist.py", tmp_path / "tree" / "wheels")
    return tmp_path


def check(sources: Path, name: str) -> list[str]:
    """What is found wrong with one file, which is told by the exit status, too."""
    checked = subprocess.run(
        [sys.executable, sources / "tree" / "wheels" / "check_dist.py", sources / "dist" / name],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert checked.stderr == ""
    first, *findings = checked.stdout.splitlines()
    assert first.startswith(f"{name}: {'wrong' if findings else 'complete, '}")
    assert checked.returncode == bool(findings)
    return [finding.strip() for finding in findings]


def check_wheel(
    sources: Path, files: dict[str, str], name: str = "fastpool-1-cp313-cp313-linux_x86_64.whl"
) -> list[str]:
    with zipfile.ZipFile(sources / "dist" / name, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return check(sources, name)


def test_a_wheel_has_what_is_of_it_and_nothing_else(sources: Path) -> None:
    assert check_wheel(sources, GOOD) == []


@pytest.mark.parametrize("name", sorted(GOOD))
def test_no_part_of_a_wheel_may_be_missing(sources: Path, name: str) -> None:
    found = check_wheel(sources, {each: text for each, text in GOOD.items() if each != name})
    if name.endswith(".so"):
        assert found == [f"of {name.removesuffix(f'.{NATIVE}')}, 0 extensions for cp313"]
    else:
        assert f"missing: {name}" in found


@pytest.mark.parametrize(
    "name",
    [
        "fastpool/__init__.py",
        "fastpool/py.typed",
        "fastpool/_core/_segment.pyi",
        f"{ABOUT}/licenses/LICENSE",
    ],
)
@pytest.mark.parametrize("text", ["", "something else"])
def test_each_file_of_a_wheel_is_that_of_the_tree(sources: Path, name: str, text: str) -> None:
    wrong = [f"not as it is here: {name}"] if text != GOOD[name] else []
    assert check_wheel(sources, {**GOOD, name: text}) == wrong


@pytest.mark.parametrize(
    "name",
    [
        "fastpool/_core/_segment.pyx",
        "fastpool/_core/fp_pool.cc",
        "fastpool/_core/libcore.a",
        "fastpool/__pycache__/__init__.cpython-313.pyc",
        "fastpool/tests/test_it.py",
        "fastpool/conftest.py",
        "fastpool/LICENSE",
        "tests/test_it.py",
        f"{ABOUT}/licenses/csrc/LICENSE",
        f"{ABOUT}/LICENSE",
        f"fastpool/_core/_other.{NATIVE}",
        "fastpool/_core/_segment.cpython-312-x86_64-linux-gnu.so",
        "fastpool/_core/_segment.cpython-313t-x86_64-linux-gnu.so",
    ],
)
def test_nothing_else_may_be_in_a_wheel(sources: Path, name: str) -> None:
    assert check_wheel(sources, {**GOOD, name: "x"}) == [
        f"in the wheel, without being of it: {name}"
    ]


def test_an_extension_has_type_information(sources: Path) -> None:
    (sources / "tree/src/fastpool/_core/_segment.pyi").unlink()
    files = {name: text for name, text in GOOD.items() if not name.endswith(".pyi")}
    assert check_wheel(sources, files) == ["without type information: fastpool/_core/_segment"]


def test_a_wheel_for_another_python_has_extensions_for_it(sources: Path) -> None:
    name = "fastpool-1-cp314-cp314t-linux_x86_64.whl"
    assert check_wheel(sources, GOOD, name)[:2] == [
        "of fastpool/_core/_segment, 0 extensions for cp314t",
        "of fastpool/_core/_cython, 0 extensions for cp314t",
    ]
    renamed = {each.replace("-313-", "-314t-"): text for each, text in GOOD.items()}
    assert check_wheel(sources, renamed, name) == []


def test_a_wheel_without_a_core_has_no_extension(sources: Path) -> None:
    name = "fastpool-1-py3-none-win32.win_amd64.whl"
    pure = {each: text for each, text in GOOD.items() if not each.endswith(".so")}
    assert check_wheel(sources, pure, name) == []
    assert len(check_wheel(sources, GOOD, name)) == 2


def test_a_wheel_has_the_version_that_its_name_says(sources: Path) -> None:
    other = {**GOOD, f"{ABOUT}/METADATA": "Name: fastpool\nVersion: 2\n"}
    assert check_wheel(sources, other) == [
        "a name with the version 1, which the metadata don't have"
    ]


def test_a_large_wheel_is_found(sources: Path) -> None:
    name = "fastpool-1-cp313-cp313-linux_x86_64.whl"
    large = {**GOOD, f"fastpool/_core/_segment.{NATIVE}": "x" * 1_000_000}
    found = check_wheel(sources, large)
    size = (sources / "dist" / name).stat().st_size
    assert found == [f"{size} bytes, more than a wheel should have"]


def check_sdist(
    sources: Path, files: dict[str, str], top: str = "fastpool-1", links: tuple[str, ...] = ()
) -> list[str]:
    with tarfile.open(sources / "dist" / "fastpool-1.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            if name in links:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return check(sources, "fastpool-1.tar.gz")


@pytest.fixture
def checkout(sources: Path) -> Path:
    tree = sources / "tree"
    subprocess.run(["git", "init", "-q", tree], check=True)
    subprocess.run(["git", "-C", tree, "add", *TREE], check=True)
    return sources


def test_an_sdist_has_what_git_tracks_and_what_setuptools_adds(checkout: Path) -> None:
    added = {"PKG-INFO": "x", "setup.cfg": "x", "src/fastpool.egg-info/SOURCES.txt": "x"}
    assert check_sdist(checkout, {**TREE, **added}) == []


@pytest.mark.parametrize(
    ("files", "finding"),
    [
        ({name: text for name, text in TREE.items() if name != "setup.py"}, "missing: setup.py"),
        ({**TREE, "setup.py": ""}, "not as it is here: setup.py"),
        ({**TREE, "setup.py": "import setuptools\nevil()\n"}, "not as it is here: setup.py"),
        ({**TREE, "src/stray.py": ""}, "in the sdist, but not tracked: src/stray.py"),
    ],
)
def test_an_sdist_has_to_equal_what_git_tracks(
    checkout: Path, files: dict[str, str], finding: str
) -> None:
    assert check_sdist(checkout, files) == [finding]


def test_an_sdist_has_one_folder_with_its_name(checkout: Path) -> None:
    found = check_sdist(checkout, TREE, "other-1")
    assert "not a file below fastpool-1/: other-1/setup.py" in found


def test_an_sdist_has_no_links(checkout: Path) -> None:
    assert check_sdist(checkout, TREE, links=("setup.py",)) == [
        "not a file below fastpool-1/: fastpool-1/setup.py",
        "missing: setup.py",
    ]


def test_where_there_is_no_checkout_an_sdist_is_compared_with_nothing(sources: Path) -> None:
    subprocess.run(["git", "init", "-q", sources], check=True)  # somebody else's, around the tree
    path = sources / "dist" / "fastpool-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("fastpool-1/setup.py"))
    checked = subprocess.run(
        [sys.executable, sources / "tree/wheels/check_dist.py", path],
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        "fastpool-1.tar.gz: not compared with what git tracks, as this is no checkout\n"
    )
