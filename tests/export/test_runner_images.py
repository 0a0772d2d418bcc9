"""The program beside an exported file reads images alone: it names the formats to Pillow too."""

import os
import subprocess
import sys

from seg_det.export import runner
from seg_det.export.onnx import OnnxTarget
from seg_det.predict.lookup import TASKS

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\nshowpage\n"


def test_the_program_does_not_run_postscript(tmp_path):
    text = runner.source(
        OnnxTarget, file="m.onnx", program="m_run.py", task=TASKS["classification"], pipeline="full", resize="stretch"
    )
    (tmp_path / "m_run.py").write_text(text)
    (tmp_path / "m.json").write_text("{}")
    (tmp_path / "photo.jpg").write_bytes(POSTSCRIPT)
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    (tmp_path / "gs").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, tmp_path / "m_run.py", tmp_path / "photo.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "photo.jpg cannot be read (cannot identify image file" in done.stderr
    assert done.stderr.endswith("give a JPEG, PNG, BMP, WebP, TIFF or GIF file\n")
    assert not (tmp_path / "was-run").exists()
