"""Jars from Maven Central, by exact lists with SHA-256 sums (`locks/`), into the user's cache.

jgo resolves each artifact by itself: its transitive resolution picks wrong versions, so the lists were computed by
Maven.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

with warnings.catch_warnings():
    # As root without a session there is no XDG_RUNTIME_DIR; nothing here needs one.
    warnings.simplefilter("ignore")
    from jgo.maven import MavenContext
from rich.progress import Progress, TaskID

from pipeline.stack.errors import StackError

LOCKS: Final = Path(__file__).parent / "locks"
THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Jar:
    """One artifact: `group:artifact:version[:classifier:packaging]` and its SHA-256."""

    coordinate: str
    sha256: str

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        """Group, artifact, version, classifier, packaging."""
        group, artifact, version, *rest = self.coordinate.split(":")
        classifier, packaging = rest or ("", "jar")
        return group, artifact, version, classifier, packaging


def cache() -> Path:
    """Where downloads are kept: `PAYMENTS_CACHE`, else the user's cache folder."""
    base = os.environ.get("PAYMENTS_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "payments-on-kafka"


def locked(name: str) -> list[Jar]:
    """The list `locks/<name>.lock`."""
    lines = (LOCKS / f"{name}.lock").read_text().splitlines()
    return [Jar(*line.split()) for line in lines if line and line[0] != "#"]


def fetch(progress: Progress | None = None) -> dict[str, list[Path]]:
    """Every jar of every list, downloaded where missing and checked once. Raises StackError."""
    lists = {name: locked(name) for name in ("kafka", "debezium", "apicurio")}
    wanted = list(dict.fromkeys(jar for jars in lists.values() for jar in jars))
    task = progress.add_task("jars", total=len(wanted)) if progress else None
    with ThreadPoolExecutor(THREADS) as pool:
        paths = dict(zip(wanted, pool.map(lambda jar: _fetched(jar, progress, task), wanted), strict=True))
    return {name: [paths[jar] for jar in jars] for name, jars in lists.items()}


def registry_home(archive: Path) -> Path:
    """The unpacked registry, beside its archive."""
    home = archive.parent / "unpacked"
    if not home.exists():
        partial = home.with_suffix(f".partial-{os.getpid()}")
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        partial.rename(home)
    return home


def lay_out_plugin(target: Path) -> Path:
    """The Debezium plugin as Connect expects it, copied under `target`: for a container that cannot see the cache."""
    folder = target / "debezium"
    folder.mkdir(parents=True, exist_ok=True)
    for jar in fetch()["debezium"]:
        shutil.copy(jar, folder / jar.name)
    return folder


def _fetched(jar: Jar, progress: Progress | None, task: TaskID | None) -> Path:
    path = _download(jar)
    if progress and task is not None:
        progress.advance(task)
    return path


def _download(jar: Jar) -> Path:
    """The file, with the sum that the list says. A sum once checked is remembered beside the file."""
    path = _resolve(jar)
    checked = path.with_name(path.name + ".checked")
    if checked.exists() and checked.read_text() == f"{jar.sha256} {path.stat().st_size}":
        return path
    for again in (True, False):
        if sha256(path) == jar.sha256:
            checked.write_text(f"{jar.sha256} {path.stat().st_size}")
            return path
        path.unlink()  # a broken or interrupted download: once more
        if again:
            path = _resolve(jar)
    raise StackError(f"{jar.coordinate} has another SHA-256 than pipeline/stack/locks says; it was not used")


def _resolve(jar: Jar) -> Path:
    group, artifact, version, classifier, packaging = jar.parts
    context = MavenContext(repo_cache=cache() / "maven", timeout=60)
    try:
        found = context.project(group, artifact).at_version(version).artifact(classifier, packaging).resolve()
    except Exception as error:  # jgo raises whatever its transport does
        raise StackError(
            f"cannot download {jar.coordinate}: {error}. Run it again: it goes on where it stopped"
        ) from error
    return Path(found)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def classpath(paths: Iterable[Path]) -> str:
    """A Java class path."""
    return os.pathsep.join(map(str, paths))
