"""A package's name and version in, the folder of its unpacked source archive out.

Archives are kept in the user's cache folder; nothing of them gets into the repository.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from platformdirs import user_cache_path


def unpacked(name: str, version: str) -> Path:
    """The source archive of this release, downloaded by pip at the first need.

    Raises CalledProcessError where pip cannot, FileNotFoundError where there is no pip.
    """
    cache = user_cache_path("pyrepl3-external")
    folder = cache / f"{name}-{version}"
    if not folder.exists():
        downloads = cache / "downloads"
        command = [*_pip(), "download", "--quiet", "--no-deps", "--no-binary", name]
        subprocess.run([*command, "--dest", str(downloads), f"{name}=={version}"], check=True)
        archive = next(downloads.glob(f"{name}-{version}.tar.*"))
        # Beside its place first: a folder that is there is whole.
        with tempfile.TemporaryDirectory(dir=cache) as beside, tarfile.open(archive) as tar:
            tar.extractall(beside, filter="data")
            Path(beside, folder.name).rename(folder)
    return folder


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip")  # uv makes environments without one
    if found is None:
        raise FileNotFoundError("no pip: install it, or put the archives into the cache folder")
    return [found]
