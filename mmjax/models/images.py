"""A text read with each of several images, and answered from all of them side by side, as NLVR2's pairs."""

import jax
import jax.numpy as jnp
from einops import rearrange

from mmjax.errors import UserError


def each(images: int, text: list, image: list, rank: int) -> tuple[list, list]:
  """Rows of one text and one image: arrays text [B,...] -> [B*I,...], each text I times; image [B,I,...] -> [B*I,...].

  rank: how many axes the first of `image` has where every text has one image; then nothing is changed. None stays.
  Raises UserError where I is not `images`.
  """
  several = image[0].ndim > rank
  found = image[0].shape[1] if several else 1
  if found != images:
    raise UserError(f'found {found} images a text, expected {images} (images)')
  if not several:
    return text, image
  return (
    [None if x is None else jnp.repeat(x, images, 0) for x in text],
    [None if x is None else rearrange(x, 'B I ... -> (B I) ...') for x in image],
  )


def alone(images: int, *laid: jax.Array | None) -> None:
  """Raises UserError where texts are said to lie by rows of one image (image_of, places), and have several."""
  if images > 1 and any(one is not None for one in laid):
    raise UserError(f'image_of, places: found {images} images a text (images), expected 1')


def which(images: int, rows: int) -> jax.Array:
  """1 2 ... I 1 2 ...: the place of each row's image among its text's, int [rows]."""
  return jnp.tile(1 + jnp.arange(images), rows // images)


def side_by_side(pooled: jax.Array, images: int) -> jax.Array:
  """[B*I,D] -> [B,I*D]."""
  return rearrange(pooled, '(B I) D -> B (I D)', I=images)
