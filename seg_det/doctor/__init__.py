"""Checks of a data set: what is wrong or doubtful in its images, annotations and splits, found before a training."""
