"""What `--only` leaves of a benchmark's cases."""

from tfvp.errors import UserError


def chosen(cases, only, name=lambda case: case):
    """The cases whose name has one of the parts `only`, or all of them if there are none.

    Args:
        cases: a list.
        only: parts of names.
        name: case -> its name.

    Raises:
        UserError: no name has such a part.
    """
    found = [case for case in cases if not only or any(part in name(case) for part in only)]
    if not found:
        raise UserError(f"--only {' '.join(only)}: no name has such a part; there are {', '.join(map(name, cases))}")
    return found
