"""Errors that are the user's to correct. Imports nothing, so that a command can report one before torch is loaded."""


class UserError(Exception):
    """A mistake that the user can correct: one sentence with what is wrong, where, and the remedy. Shown without traceback."""


class Terminated(BaseException):
    """The process was told to end by the signal that it names, as schedulers do; like KeyboardInterrupt no mistake."""

    def __init__(self, signal: str = "SIGTERM"):
        super().__init__(signal)
