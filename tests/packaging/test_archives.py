"""What wheels/packing.py packs again, and what wheels/check_dist.py finds wrong with it."""

from __future__ import annotations

import importlib.util
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


def test_the_date_of_all_files_can_be_given(
    packing: types.ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    sdist = tree.parent / "sdist"
    write_tar(sdist, tree, age(tree))
    packing.pack_tar(sdist)
    with tarfile.open(sdist) as tar:
        assert {each.mtime for each in tar} == {1_700_000_000}


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


@pytest.mark.parametrize("date", ["", "yesterday", "-1", str(2**32)])
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


GOOD = (
    "fastpool/__init__.py",
    "fastpool/py.typed",
    "fastpool/_core/_segment.pyi",
    "fastpool/_core/_segment.cpython-313-x86_64-linux-gnu.so",
    "fastpool-1.dist-info/licenses/LICENSE",
)


@pytest.mark.parametrize(
    ("missing", "more", "finding"),
    [
        ("", "", ""),
        ("", "fastpool/_core/_segment.pyx", "source in the wheel"),
        ("", "tests/test_it.py", "beside the package"),
        ("", "fastpool-1.dist-info/licenses/csrc/LICENSE", "licences"),
        ("fastpool-1.dist-info/licenses/LICENSE", "", "licences"),
        ("fastpool/py.typed", "", "not in the wheel"),
        ("", "fastpool/_core/_many.cpython-313-x86_64-linux-gnu.so", "without type information"),
        ("fastpool/_core/_segment.cpython-313-x86_64-linux-gnu.so", "", "native core"),
    ],
)
def test_a_wheel_is_checked(tmp_path: Path, missing: str, more: str, finding: str) -> None:
    path = tmp_path / "fastpool-1-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in {*GOOD, more} - {missing, ""}:
            archive.writestr(name, "")
    found = load("check_dist").check_wheel(path)
    assert len(found) == bool(finding)
    assert all(finding in line for line in found)


def test_a_large_wheel_is_found(tmp_path: Path) -> None:
    path = tmp_path / "fastpool-1-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in GOOD:
            archive.writestr(name, "")
        archive.writestr("fastpool/large.bin", bytes(1_000_000))
    assert load("check_dist").check_wheel(path) == [
        f"{path.stat().st_size} bytes, more than a wheel should have"
    ]


def test_an_sdist_has_to_equal_what_git_tracks(tmp_path: Path) -> None:
    root = WHEELS.parent
    listing = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("this is no checkout")
    tracked = [name for name in listing.stdout.splitlines() if name != "setup.py"]
    path = tmp_path / "fastpool-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in [*tracked, "PKG-INFO", "src/fastpool.egg-info/SOURCES.txt", "src/stray.py"]:
            archive.addfile(tarfile.TarInfo(f"fastpool-1/{name}"))
    checked = subprocess.run(
        [sys.executable, WHEELS / "check_dist.py", path], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [
        "fastpool-1.tar.gz: wrong",
        "  not in the sdist: setup.py",
        "  in the sdist, but not tracked: src/stray.py",
    ]


def test_where_there_is_no_checkout_an_sdist_is_compared_with_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree" / "wheels").mkdir(parents=True)
    check = shutil.copy(WHEELS / "check_dist.py", tmp_path / "tree" / "wheels")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # somebody else's, around the tree
    path = tmp_path / "fastpool-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("fastpool-1/setup.py"))
    checked = subprocess.run([sys.executable, check, path], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        "fastpool-1.tar.gz: not compared with what git tracks, as this is no checkout\n"
    )
