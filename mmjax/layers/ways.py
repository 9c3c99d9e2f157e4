"""How layers are computed where what they give is the same: which attention, and what is kept for the gradient.

It is said around the tracing of a step (`using`), so that no module has to hand it on to those inside of it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from mmjax.errors import UserError, nearest
from mmjax.layers.axes import by_rows

ATTENTION = ('auto', 'xla', 'cudnn')  # see attention.py
REMAT = {  # what of a layer is kept for its gradient, beside what it was given; all else is computed again
  'none': None,  # all is kept
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # what products with weights gave
  'full': jax.checkpoint_policies.nothing_saveable,  # nothing (Chen et al. 2016, arXiv:1604.06174)
}


class Ways(NamedTuple):
  """One of ATTENTION and one of REMAT."""

  attention: str = 'auto'
  remat: str = 'none'


_DEFAULT = Ways()
_now: ContextVar[Ways] = ContextVar('ways', default=_DEFAULT)


def checked(ways: Ways) -> Ways:
  """The same. Raises UserError for an unknown one."""
  for name, known in (('attention', ATTENTION), ('remat', tuple(REMAT))):
    if (found := getattr(ways, name)) not in known:
      raise UserError(f'parallel.{name}: found {found!r}, expected one of {known}{nearest(found, known)}')
  return ways


@contextlib.contextmanager
def using(ways: Ways) -> Iterator[None]:
  """What is traced in here is computed that way."""
  token = _now.set(ways)
  try:
    yield
  finally:
    _now.reset(token)


def now() -> Ways:
  return _now.get()


def layer_step(step: Callable[..., Any], scanned: bool) -> Callable[..., Any]:
  """A layer, (module, x, ...) -> the next x, whose rows stay where they belong (`by_rows`), and which keeps for its
  gradient what the way of now says. x: arrays [rows,...]; scanned: by nn.scan."""
  policy = REMAT[now().remat]
  kept = step if policy is None else nn.remat(step, prevent_cse=not scanned, policy=policy)
  at_home = functools.partial(jax.tree.map, by_rows)
  return lambda module, x, *more: at_home(kept(module, at_home(x), *more))
