"""Fills the weights bucket, once: fetch_weights.py REPOSITORY REVISION FOLDER.

Owns: the files of one Hugging Face repository at one commit, under FOLDER/REPOSITORY/REVISION, each checked against the
sum that Hugging Face names for that commit: SHA-256 for large files, git's own SHA-1 for small ones. A manifest is
written last, so a folder that has one is whole; whoever serves the weights looks for it. Does not own: serving them.

It runs as a Cloud Run job with the bucket mounted at FOLDER, by Python's standard library alone. With the manifest in
place it asks nobody and ends. An interrupted run is taken up where it ended; what has a wrong sum is deleted.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, cast

MANIFEST = "pilotlight.json"
"""Named so that no repository has it."""
SERVED = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken")
"""What an engine reads. Not `.py`, which it would run, and not the same weights again in older formats."""
CHUNK = 8 * 2**20
TIMEOUT_S = 60
"""A connection that stands still this long is given up."""
TRIES = 6
"""How often in a row a download may bring nothing new."""
COMMIT = re.compile(r"[0-9a-f]{40}")
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class Refused(Exception):
    """The weights can't be had, or are not what they should be. The message says what to do."""


@dataclass(frozen=True)
class File:
    """One file of the repository, as its tree has it."""

    path: str
    size: int
    algorithm: str
    """`sha256` of the content (LFS), or `git`: SHA-1 of git's blob header and the content."""
    digest: str

    def hash(self) -> Any:
        """A hash object that ends in `digest` when fed the true content."""
        return hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % self.size)


def main(repository: str, revision: str, folder: str) -> None:
    """Makes FOLDER/REPOSITORY/REVISION whole, or raises."""
    if not COMMIT.fullmatch(revision):
        raise Refused(f"{revision!r} is no commit: a branch can change under a running service")
    target = Path(folder) / repository / revision
    manifest = target / MANIFEST
    if whole(target, repository, revision):
        log(f"{target} is whole and was checked: nothing to do")
        return
    # Whatever stands there says more than is true.
    manifest.unlink(missing_ok=True)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    files = listed(endpoint, repository, revision)
    log(f"{repository}@{revision}: {len(files)} files, {sum(file.size for file in files)} bytes")
    for file in files:
        fetch(endpoint, repository, revision, file, target / file.path)
    write_manifest(manifest, repository, revision, files)
    log(f"{target} is whole: every file has the sum of the commit")
    remove_others(Path(folder), target)


def whole(target: Path, repository: str, revision: str) -> bool:
    """Whether the manifest is there, for this commit, with every file it lists at its size."""
    try:
        manifest = cast(dict[str, Any], json.loads((target / MANIFEST).read_text()))
        sizes = {file["path"]: file["size"] for file in manifest["files"]}
        right = (manifest["repository"], manifest["revision"]) == (repository, revision)
        return right and bool(sizes) and all((target / path).stat().st_size == size for path, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def listed(endpoint: str, repository: str, revision: str) -> list[File]:
    """The files to fetch, from the repository's tree at the commit; small ones first, so that mistakes show early."""
    url = f"{endpoint}/api/models/{urllib.parse.quote(repository)}/tree/{revision}?recursive=True"
    files: list[File] = []
    while url:
        entries, link = tree_page(url)
        files += [file for file in map(file_of, entries) if file]
        following = re.search(r'<([^>]+)>;\s*rel="next"', link)
        url = urllib.parse.urljoin(url, following[1]) if following else ""
        if url and not url.startswith(f"{endpoint}/"):
            raise Refused(f"the file list goes on at {url}, which is not {endpoint}")
    if not any(file.path.endswith(".safetensors") for file in files):
        raise Refused(f"{repository}@{revision} has no .safetensors file; is model.revision a commit of model.weights?")
    return sorted(files, key=lambda file: (file.size, file.path))


def tree_page(url: str) -> tuple[list[dict[str, Any]], str]:
    """One page of the tree, and its Link header."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                return json.load(response), response.headers.get("Link") or ""
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in TRANSIENT:
                raise Refused(f"{url}: HTTP {error.code}; is model.revision a commit of model.weights?") from None
            log(f"{url}: HTTP {error.code}")
        except (OSError, HTTPException, ValueError) as error:
            log(f"{url}: {error!r}")
    raise Refused(f"{url}: no answer in {TRIES} tries; start the job again")


def file_of(entry: dict[str, Any]) -> File | None:
    """A tree entry as a file to fetch; None for what no engine reads."""
    path = str(entry["path"])
    if entry["type"] != "file" or not path.endswith(SERVED):
        return None
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path:
        raise Refused(f"the repository has a file named {path!r}, which could stand anywhere")
    lfs = entry.get("lfs")
    if lfs:
        return File(path, int(lfs["size"]), "sha256", str(lfs["oid"]))
    return File(path, int(entry["size"]), "git", str(entry["oid"]))


def fetch(endpoint: str, repository: str, revision: str, file: File, target: Path) -> None:
    """Brings one file to `target` with the right sum; a wrong one is not left there."""
    if target.is_file() and target.stat().st_size == file.size and sum_of(file, target) == file.digest:
        log(f"{file.path}: is here from an earlier run, and right")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    url = f"{endpoint}/{urllib.parse.quote(repository)}/resolve/{revision}/{urllib.parse.quote(file.path)}"
    done = file.hash()
    with target.open("wb") as out:
        got = tries = 0
        while got < file.size:
            before = got
            got, done = download(url, file, out, got, done)
            tries = 0 if got > before else tries + 1
            if tries == TRIES:
                break
            if tries:
                time.sleep(2**tries)
    if done.hexdigest() == file.digest and got == file.size:
        log(f"{file.path}: {got} bytes, {file.algorithm} {file.digest}")
        return
    target.unlink()
    if got < file.size:
        raise Refused(
            f"{file.path}: {got} of {file.size} bytes came, then nothing in {TRIES} tries; start the job again"
        )
    raise Refused(f"{file.path}: has {file.algorithm} {done.hexdigest()}, the commit says {file.digest}; not served")


def download(url: str, file: File, out: BinaryIO, got: int, done: Any) -> tuple[int, Any]:
    """Reads on from byte `got` until the file or the connection ends; returns how far it came, and the sum so far."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={got}-"} if got else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if got and response.status != 206:
                log(f"{file.path}: the server can't go on at byte {got}; from the start again")
                out.seek(0)
                out.truncate()
                got, done = 0, file.hash()
            while got < file.size:
                chunk = response.read(min(CHUNK, file.size - got))
                if not chunk:
                    break
                out.write(chunk)
                done.update(chunk)
                got += len(chunk)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in TRANSIENT:
            raise Refused(f"{url}: HTTP {error.code}") from None
        log(f"{file.path}: HTTP {error.code} at byte {got}")
    except (TimeoutError, urllib.error.URLError, ConnectionError, HTTPException) as error:
        log(f"{file.path}: {error!r} at byte {got}")
    return got, done


def sum_of(file: File, path: Path) -> str:
    """The sum of what stands at `path`."""
    done = file.hash()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK):
            done.update(chunk)
    return done.hexdigest()


def write_manifest(manifest: Path, repository: str, revision: str, files: list[File]) -> None:
    """Appears whole or not at all."""
    document = {"repository": repository, "revision": revision, "files": [asdict(file) for file in files]}
    new = manifest.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n")
    new.replace(manifest)


def remove_others(folder: Path, target: Path) -> None:
    """Removes other commits' folders, which nothing serves any more and which would be paid for every month."""
    for other in folder.glob("*/*/*"):
        if other != target and other.is_dir() and COMMIT.fullmatch(other.name):
            log(f"{other}: of other settings; removed")
            # The manifest first: a folder half removed must not look whole.
            (other / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(other)


def log(text: str) -> None:
    """One line for Cloud Logging."""
    print(f"weights: {text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: fetch_weights.py REPOSITORY REVISION FOLDER")
    try:
        main(*sys.argv[1:])
    except (Refused, OSError) as error:
        sys.exit(f"weights: {error}")
