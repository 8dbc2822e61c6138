"""The errors that a call can raise: Unavailable, Refused and their base."""


class PasserbyError(Exception):
    """Base of all errors of this package that are not a programmer's mistake."""


class Unavailable(PasserbyError):
    """Something is unreachable, too slow or full for now: the same call may work later."""


class Refused(PasserbyError):
    """The request is wrong or impossible; `code` is the name of the gRPC status."""

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
