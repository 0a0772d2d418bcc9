"""Export: a trained model as a file for a runtime, with its pre- and post-processing and its card inside.

One target is one file here and one YAML in ``conf/target``; :class:`seg_det.export.base.Target` is what it must offer.
:mod:`~seg_det.export.pipeline` builds the graph, :mod:`~seg_det.sidecar` writes the card next to the file,
:mod:`~seg_det.export.runtimes` opens what was exported, and :mod:`~seg_det.export.runner` becomes the program that runs it
without this package. Inputs and outputs are the same for all targets; h, w are the card's input size:

========== ========================================= ===================================================================
pipeline   input                                     outputs
========== ========================================= ===================================================================
full       ``image`` u8 [H, W, 3], RGB, any size     in pixels of that image
normalised ``images`` f32 [B, 3, h, w], RGB, 0..255, in pixels of the input, with [B] in front
           resized by the card's rule
raw        ``images``, as above                      ``logits`` and, of a detector, ``deltas``: what the network gives
========== ========================================= ===================================================================

Outputs of the first two: a detector's ``boxes`` f32 [M, 4] xyxy, ``scores`` f32 [M], ``labels`` i64 [M] (indices of the card's
categories) and ``count`` i64 [], where M is the card's ``max_detections`` and rows from ``count`` on are zero; a segmenter's
``mask`` u8 [H, W] of class indices; a classifier's ``scores`` f32 [C], its probabilities. A format that knows no such integers
may give others.
"""
