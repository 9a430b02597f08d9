"""The interpreter and the sources that the suites run with: one venv, three source archives.

What lives here: making `target/conformance/venv` from the pinned requirements, and unpacking the
pinned source archives whose tests are run unmodified. What does not: running anything in them.
Called by run.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
WORK = HERE.parent / "target" / "conformance"
REQUIREMENTS = HERE / "requirements.txt"

# Source archives as published on PyPI: name, version, SHA-256.
ARCHIVES = (
    ("kombu", "5.7.0", "31e62fdfd2381caa3422f8e02b84a491d9a2180ddda74507b57f4cb1e1c2c2c9"),
    ("amqp", "5.4.2", "9362660c4a31150cf18e78cae2ce8aa1e929fc6c6739e69f6dd5dbea9c3edc82"),
    ("celery", "5.7.0", "6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0"),
)


def venv_python() -> Path:
    """The interpreter of the suites' venv, made on first use and when the pins change."""
    venv = WORK / "venv"
    python = venv / "bin" / "python"
    stamp = venv / "requirements.sha256"
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == key:
        return python
    print("conformance: making the venv (once per change of requirements.txt)", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    _pip(python, "install", "--no-deps", "-r", str(REQUIREMENTS))
    _pip(python, "check")
    stamp.write_text(key)
    return python


def source(name: str) -> Path:
    """The unpacked source archive `name`, downloaded and verified on first use."""
    for known, version, digest in ARCHIVES:
        if known == name:
            return _unpacked(known, version, digest)
    raise KeyError(f"no pinned source archive named {name}")


def _unpacked(name: str, version: str, digest: str) -> Path:
    folder = WORK / "src" / f"{name}-{version}"
    stamp = folder / ".sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    archives = WORK / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    archive = archives / f"{name}-{version}.tar.gz"
    if not archive.exists():
        _pip(
            venv_python(), "download", "--no-deps", "--no-binary", ":all:",
            "--no-build-isolation", "--dest", str(archives), f"{name}=={version}",
        )
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != digest:
        archive.unlink()
        raise SystemExit(f"conformance: {archive.name} has SHA-256 {found}, pinned is {digest}")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder.parent, filter="data")
    stamp.write_text(digest)
    return folder


def _pip(python: Path, *arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [str(python), "-m", "pip", *arguments], env=environment,
        capture_output=True, text=True, check=False,
    )
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        raise SystemExit(f"conformance: pip {arguments[0]} failed with {done.returncode}")
