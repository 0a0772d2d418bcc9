"""Images in, results out: what a trained network needs to be used. No labels, no data loader, no run folder.

:func:`seg_det.predict.loading.load` opens a checkpoint, an exported file or published weights. What differs by kind of task is
in one file a task, filled in as :class:`seg_det.predict.task.Task`. Evaluation, verification and export use the same code.
"""
