"""The error that a user can act on."""


class UserError(Exception):
    """A problem whose message is one sentence that says what to do about it.

    The commands print the message alone and exit with status 2; everything else that is
    raised is a defect of tfvp and keeps its stack trace.
    """
