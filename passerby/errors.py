"""What a call can fail with: one family, two members, messages that say what to do."""


class PasserbyError(Exception):
    """Base of all errors of this package that are not a programmer's mistake."""


class Unavailable(PasserbyError):
    """Something is not reachable, too slow or full at the moment: the same call may work later."""


class Refused(PasserbyError):
    """The request was understood and turned down; `code` is the gRPC status' name."""

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
