"""EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946, table 1; its Lite form, tensorflow/tpu 2020): image -> vector.

Differs from the paper: as the Lite form, no squeeze-and-excitation, ReLU6 in place of swish.

B images, h x w pixels, F channels, A answers (classes).
"""

from functools import partial

import jax
from flax import linen as nn

from mmjax.layers.blocks import batch_norm

# of Lite0, a row a stage: blocks, kernel, stride of its first, how much wider inside, channels
LITE0 = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
SIDE = 224  # pixels of the images that Lite0 was trained on
MEAN, STD = 127, 128  # by which they were normalised, of 0..255


def norm(train: bool, name: str) -> nn.BatchNorm:
  return batch_norm(train, epsilon=1e-3, name=name)


class MBConv(nn.Module):
  """An inverted bottleneck (MobileNetV2, arXiv:1801.04381): wide, depthwise, narrow. x [B,y,x,F] -> [B,y',x',out].

  The short cut adds the input where the block keeps its shape.
  """

  out: int
  kernel: int = 3
  stride: int = 1
  expand: int = 6

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    conv, wide, y = partial(nn.Conv, use_bias=False), self.expand * x.shape[-1], x
    if self.expand > 1:
      y = nn.relu6(norm(train, 'expand_norm')(conv(wide, (1, 1), name='expand')(y)))
    size, stride = (self.kernel,) * 2, (self.stride,) * 2
    y = nn.relu6(norm(train, 'depth_norm')(conv(wide, size, stride, feature_group_count=wide, name='depth')(y)))
    y = norm(train, 'project_norm')(conv(self.out, (1, 1), name='project')(y))
    return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
  """image [B,h,w,3] float, -1..1 -> 'v' a grid [B,h/32,w/32,F], 'pooled' [B,F] its mean and, where num_answers is not
  0, 'answers' [B,A]: logits. Changes 'batch_stats'.
  """

  stages: tuple[tuple[int, int, int, int, int], ...] = LITE0
  stem: int = 32
  head: int = 1280
  num_answers: int = 0

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    x = ((image + 1) * 127.5 - MEAN) / STD
    x = nn.Conv(self.stem, (3, 3), 2, use_bias=False, name='stem')(x)
    x = nn.relu6(norm(train, 'stem_norm')(x))
    for n, (blocks, kernel, stride, expand, out) in enumerate(self.stages):
      for m in range(blocks):
        x = MBConv(out, kernel, 1 if m else stride, expand, name=f'stage{n}_{m}')(x, train=train)
    x = nn.relu6(norm(train, 'head_norm')(nn.Conv(self.head, (1, 1), use_bias=False, name='head')(x)))
    found = {'v': x, 'pooled': x.mean((1, 2))}
    if self.num_answers:
      found['answers'] = nn.Dense(self.num_answers, name='answer_score')(found['pooled'])
    return found
