"""Every error that msedge raises on purpose.

    MsedgeError
    ├── UserError            exit 2: the input is wrong
    │   ├── RecipeError      a recipe's file, key or value
    │   ├── DataError        images, labels, calibration folders
    │   ├── ModelError       unknown model, impossible config, weights that do not fit
    │   ├── ArtifactError    a file or folder that is missing, damaged or of another kind; an output that cannot be written
    │   ├── DownloadError    a file of the network that cannot be had, or that is not what it should be
    │   └── ExportError      a graph that cannot be expressed
    ├── CheckFailed          exit 1: a parity or gate check did not hold
    └── ToolError            exit 3: a tool is missing, broken, or died
        ├── ToolMissing
        ├── ToolTimeout
        └── ToolFailed       it ran and failed; `log` has what it printed

The message says what is wrong and where, `hint` says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping


class MsedgeError(Exception):
    """Base of all deliberate errors; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 3

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UserError(MsedgeError):
    exit_code = 2


class RecipeError(UserError):
    pass


class DataError(UserError):
    pass


class ModelError(UserError):
    pass


class ArtifactError(UserError):
    pass


class DownloadError(UserError):
    """`status` and `headers` are those of the server's answer; both are empty where none came."""

    def __init__(self, message: str, hint: str = "", status: int | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message, hint)
        self.status, self.headers = status, headers or {}


class ExportError(UserError):
    pass


class CheckFailed(MsedgeError):
    exit_code = 1


class ToolError(MsedgeError):
    exit_code = 3

    def __init__(self, message: str, hint: str = "", log: str = ""):
        super().__init__(message, hint)
        self.log = log


class ToolMissing(ToolError):
    pass


class ToolTimeout(ToolError):
    pass


class ToolFailed(ToolError):
    pass
