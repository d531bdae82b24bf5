"""Names that come from outside, made fit to be shown."""


def is_utf8(text: str) -> bool:
    """Tell whether a path is text; one of other bytes cannot be written into any file or table."""
    return not any('\ud800' <= character <= '\udfff' for character in text)


def printable(text: str) -> str:
    r"""Spell out what would steer a terminal, forge a line of a log, or be no Unicode at all.

    Parameters
    ----------
    text
        Names of files and folders may hold any character but "/" and NUL.

    Examples
    --------
    >>> printable('sub-é\x1b[2J\n')
    'sub-é\\x1b[2J\\n'
    """
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
