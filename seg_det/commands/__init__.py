"""The commands, one file each, as functions of their Hydra configuration. The only package that imports Hydra."""
