"""One table for all jobs of a sweep, written after each of them and printed at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seg_det.files import relative
from seg_det.report.tables import column_names, format_table, write_csv
from seg_det.runs import METRICS, RunRecord


class SweepTable(Callback):
    """Hydra's callback: keeps ``sweep.csv`` of the sweep folder up to date; a failed job makes the exit status 1."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.folder = Path()  # of the sweep, once a job has ended

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        config_of_hydra: Any = job_return.hydra_cfg  # set in every job that has ended
        if config_of_hydra.hydra.mode != RunMode.MULTIRUN:
            return
        job = Path(config_of_hydra.hydra.runtime.output_dir)
        self.folder = job.parent
        self.rows.append(
            {"job": job.name, **_overrides(job_return.overrides), **outcome(job, measured=_measured(config))}
        )
        write_csv(self.folder / "sweep.csv", self.rows)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(f"\n{format_table(self.rows, self._columns())}\n\nsweep table  {relative(self.folder / 'sweep.csv')}")
        if failed := [row["job"] for row in self.rows if row["status"] != "done"]:
            sys.exit(f"error: {len(failed)} of {len(self.rows)} jobs failed (see the table): {', '.join(failed)}")

    def _columns(self) -> list[str]:
        """Those of the table, less the overrides that are the same in every job."""
        first, *others = self.rows
        same = [key for key in first if "." in key and all(row.get(key) == first[key] for row in others)]
        return [key for key in column_names(self.rows) if key not in same or not others]


def _overrides(overrides: Sequence[str] | None) -> dict[str, str]:
    return dict(override.lstrip("+~").split("=", 1) for override in overrides or () if "=" in override)


def _measured(config: DictConfig) -> bool:
    """Whether the job is to end with figures; a preview and ``fast_dev_run`` have none."""
    return not (config.get("preview") or OmegaConf.select(config, "trainer.fast_dev_run"))


def outcome(job: Path, *, measured: bool = True) -> dict[str, Any]:
    """What a finished job left in its folder, as columns of the table."""
    if (job / METRICS).is_file():
        record = RunRecord.read(job / METRICS)
        cost = {"params": record.model.params, "madds": record.model.madds}
        minutes = record.training.minutes if record.training else None
        return {"status": "done", **record.headline, **cost, "minutes": minutes, "error": ""}
    if (job / "error.json").is_file():
        return {"status": "failed", "error": json.loads((job / "error.json").read_text(encoding="utf-8"))["error"]}
    return (
        {"status": "failed", "error": "the job ended without figures"} if measured else {"status": "done", "error": ""}
    )
