"""A vision-and-language encoder on batches of N images with K questions each: the towers of an image run once.

N images, K questions, L text, R regions or grid cells, F features, A answers.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.encoders.image import ConvGrid, Detector, Patches
from mmjax.encoders.regions import box_numbers


class Answering(nn.Module):
  """batch: 'question' [N,K,L] int (0 = padding), 'regions' [N,R,F] and 'boxes' [N,R,4], or 'image' [N,h,w,3] uint8.

  encoder: called as (text, text_mask, regions, boxes, train=), such as LXMERT or VisualBERT. pixels: what makes regions
  and boxes of a bare image; None where they are given. place: where not 0, boxes (in -1..1 times this number) are part
  of the features, for an encoder that reads no boxes of its own (as in VisualBERT's Flickr30k configuration). blind:
  every region is ones in the box of the whole image, which leaves the question alone to answer by (zeros would make
  gradients through layer norms of eps 1e-12 infinite). An encoder with BOX, a number, is given so many numbers of a box
  (see `box_numbers`), others the corners.
  'places' [P,T] int, where the batch has them: its questions are read without padding (layers/packed.py).
  Returns the encoder's outputs for B = N * K rows, among them 'answers' [B,A], the 'boxes' [N,R,4] it saw, and what
  a detector learns from.
  """

  encoder: nn.Module
  pixels: ConvGrid | Patches | Detector | None = None
  place: float = 0.0
  blind: bool = False

  def __call__(self, batch: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
    own: list = []
    if self.pixels is None:
      regions, boxes = batch['regions'], batch['boxes']
    else:
      regions, boxes, *own = self.pixels(batch['image'], train=train)
    if self.place:
      regions = jnp.concatenate([regions, self.place * (2 * boxes - 1)], -1)
    if self.blind:
      regions, boxes = jnp.ones_like(regions), jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0, 1.0]), boxes.shape)
    text = rearrange(batch['question'], 'N K L -> (N K) L')
    placed = box_numbers(boxes, getattr(self.encoder, 'BOX', 4))
    packed = {'places': batch['places']} if 'places' in batch else {}
    return self.encoder(text, text > 0, regions, placed, train=train, **packed) | {'boxes': boxes} | dict(*own)
