"""Anchors for a data set: how well the present ones cover its objects, and ones that cover them better."""
