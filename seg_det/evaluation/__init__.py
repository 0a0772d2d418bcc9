"""Measures a model on a labelled split."""
