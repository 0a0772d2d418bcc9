"""HTML pages from the package's templates: one file that needs no network, and runs no script but the template's own."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seg_det.files import write_whole

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SCRIPT = "chooser.html.j2"  # JavaScript, read as it is


def write_page(path: Path, template: str, *, scripted: bool = False, **content: Any) -> Path:
    """Render ``template`` with ``content`` into ``path``, which is replaced whole or not at all; returns it.

    ``scripted``: the page carries the chooser's script, which the page's policy names by its hash; no other may run.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = script_text() if scripted else ""
    policy = f"{POLICY}; script-src '{_hash(script)}'" if scripted else POLICY
    html = environment.get_template(template).render(policy=policy, script=Markup(script), **content)
    return write_whole(path, html)


def script_text() -> str:
    """The chooser's script."""
    return Path(__file__).with_name(SCRIPT).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"
