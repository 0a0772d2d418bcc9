"""What differs by kind of task and needs labels, one file a kind; :mod:`~seg_det.kinds.kind` is the contract."""
