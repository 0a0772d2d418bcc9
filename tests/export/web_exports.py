"""Folders of target=web for tests: the small trained runs of tests/fixtures, exported with npm real or imitated."""

import hashlib
import io
import json
import re
import shutil
import stat
import tarfile
from pathlib import Path

from commands import run

from seg_det.export import npm

EARLIER = Path(__file__).parent.parent / "fixtures" / "earlier"
# An npm that counts its calls, and gives the archive beside it or fails with the text beside it.
NPM = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
[ -f "$here/fault" ] && { cat "$here/fault" >&2; exit 1; }
while [ "$1" != --pack-destination ]; do shift; done
cp "$here/package.tgz" "$2/onnxruntime-web.tgz"
"""


def imitate_npm(folder, patch, content=None, fault=None):
    """Put an npm of one's own into ``folder`` and in place of the real one; its files hold ``content`` by name.

    The expected checksums are those of "text of NAME", which ``content`` replaces for the names in it (None: no such file).
    """
    folder.mkdir(exist_ok=True)
    files = {name: f"text of {name}".encode() for name in npm.FILES}
    patch.setattr(npm, "FILES", {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    with tarfile.open(folder / "package.tgz", "w:gz") as archive:
        for name, data in {**files, **(content or {})}.items():
            if data is not None:
                entry = tarfile.TarInfo(f"package/dist/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    if fault:
        (folder / "fault").write_text(fault)
    program = folder / "npm"
    program.write_text(NPM)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    patch.setattr(npm.shutil, "which", lambda name: str(program))
    patch.setenv("SEG_DET_CACHE", str(folder / "cache"))
    return folder


def data_keys(kind, shapes, colours, val_images=8):
    """The keys of the command that name the data of a fixture."""
    if kind == "classification":
        return ["dataset=imagefolder", f"dataset.root={colours}"]
    return ["dataset=shapes", f"dataset.root={shapes}", "dataset.train_images=24", f"dataset.val_images={val_images}"]


def export_web(folder, kind, data, *keys, check=True):
    """Export the fixture of ``kind`` with the command; returns the web folder and what the command printed."""
    run_folder = folder / kind
    if not run_folder.exists():
        shutil.copytree(EARLIER / kind, run_folder)
    before = set(folder.glob("runs/export/*/*"))
    done = run(folder, "export", f"model={kind}", "target=web", *data, *keys, check=check)
    (made,) = set(folder.glob("runs/export/*/*")) - before
    return made / "web", done


def told(folder):
    """What the page in ``folder`` is told."""
    (data,) = re.findall(
        r'<script type="application/json" id="told">(.*?)</script>', (folder / "index.html").read_text()
    )
    return json.loads(data)
