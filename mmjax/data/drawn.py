"""Data sets that are drawn by a program, as TFDS builders."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

RAW = tfds.features.Encoding.BYTES  # pixels as they are in memory: quicker to read than a PNG; records are compressed


def picture(side: int) -> tfds.features.Tensor:
  """The feature of a picture, uint8 [side,side,3]."""
  return tfds.features.Tensor(shape=(side, side, 3), dtype=np.uint8, encoding=RAW)


class Drawn(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A builder whose examples `draw` makes. A kind of data says its SPLITS, DESCRIPTION, `features` and `draw`."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {'1.0.0': 'First release.'}
  SPLITS: ClassVar[Mapping[str, tuple[int, int]]]  # split -> how many examples, and the seed
  DESCRIPTION: ClassVar[str]
  HOMEPAGE: ClassVar[str | None] = None
  url_infos = None  # nothing is downloaded; TFDS looks for checksums otherwise, through importlib_resources

  def features(self) -> dict[str, Any]:
    """name -> TFDS feature of an example."""
    raise NotImplementedError

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    """name -> all of a split's examples."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      homepage=self.HOMEPAGE,
      disable_shuffling=True,
      features=tfds.features.FeaturesDict(self.features()),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    return {split: self._generate_examples(split, *sizes) for split, sizes in self.SPLITS.items()}

  def _generate_examples(self, split: str, number: int, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    arrays = self.draw(split, number, seed)
    for i in range(number):
      yield i, {name: array[i] for name, array in arrays.items()}


def best_by(every: np.ndarray, label: np.ndarray, likely: np.ndarray, told: Sequence[int]) -> float:
  """The highest accuracy that can be reached by some columns of what is hidden behind a drawn example.

  every: all combinations int [N,F]; label and likely [N]: what each is answered with, and its share of all. told: the
  columns that are known.
  """
  seen: dict[tuple, dict[int, float]] = {}
  for row, answer, share in zip(every[:, list(told)].tolist(), label.tolist(), likely.tolist(), strict=True):
    found = seen.setdefault(tuple(row), {})
    found[answer] = found.get(answer, 0.0) + share
  return sum(max(found.values()) for found in seen.values())
