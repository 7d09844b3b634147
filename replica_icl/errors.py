"""Errors that users meet. Bad input is named before any work starts: the parameter, its value, what is allowed."""

from __future__ import annotations


class ReplicaICLError(Exception):
    """Base class of every error that this package raises on purpose."""


class ParameterError(ReplicaICLError, ValueError):
    """A parameter has a value that is not allowed.

    Attributes:
        parameter: name of the parameter as in `Setting` (the command line shows it as `--parameter`).
        value: the value that was given.
        allowed: what is allowed, as the end of a sentence.
    """

    def __init__(self, parameter: str, value: object, allowed: str) -> None:
        self.parameter = parameter
        self.value = value
        self.allowed = allowed
        super().__init__(f"{parameter} = {value}: {allowed}")

    def __reduce__(self) -> tuple[type, tuple[str, object, str]]:
        """Survive the way back from a worker process."""
        return type(self), (self.parameter, self.value, self.allowed)


class FileEntryError(ParameterError):
    """An entry of a parameter file has a value that is not allowed.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: str, parameter: str, value: object, allowed: str) -> None:
        super().__init__(parameter, value, allowed)
        self.path = path
        self.args = (f"{path}: {parameter} = {value}: {allowed}",)

    def __reduce__(self) -> tuple[type, tuple[str, str, object, str]]:  # type: ignore[override]
        return type(self), (self.path, self.parameter, self.value, self.allowed)


class MemoryEstimateError(ParameterError):
    """A job would need more memory than there is; the message holds the estimate."""


class SolveError(ReplicaICLError):
    """A solve did not converge and the caller asked for an exception (`throw=True`)."""


class WorkerError(ReplicaICLError):
    """Work in another process could not be done: the process died, or something could not be sent to it or back."""


class StorageError(ReplicaICLError):
    """Results could not be written; what was finished before is kept."""
