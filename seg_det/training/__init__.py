"""Training models of any kind. The only package that imports Lightning."""

try:
    import lightning  # noqa: F401
except RuntimeError as error:  # torchmetrics imports a torchvision that is there, and one for another torch raises this
    raise ImportError(
        f"Lightning cannot be imported beside the installed torchvision ({error}): install the torchvision that belongs to "
        f"your torch, or remove it with: pip uninstall torchvision"
    ) from error
