"""The two kinds of failure that are no bug of the code, and the phrase that helps with a misspelt word."""

import difflib
from collections.abc import Iterable

FEW = 6  # this many choices are listed in full


class UserError(ValueError):
  """A mistake in what the user gave: command line, config, data, folder. One line; exit code 2."""


class RunError(RuntimeError):
  """A run that cannot go on, such as one with a non-finite update. One line; exit code 1."""


def nearest(word: object, choices: Iterable[object]) -> str:
  """The end of an error line about an unknown word: "; did you mean 'lr'?", or the choices when they are few, or ''.

  word: what was given; choices: iterable of str. Returns str, never a line break.
  """
  known = sorted(map(str, choices))
  close = known if len(known) == 1 else difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
  if close:
    return f'; did you mean {close[0]!r}?'
  if 0 < len(known) <= FEW:
    return f'; choose from {", ".join(known)}'
  return ''
