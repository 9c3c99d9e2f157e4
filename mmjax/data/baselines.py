"""What a table of results stands on: the accuracy of an answerer that has seen no picture."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def majority(
  train: Iterable[Mapping[str, Any]],
  test: Iterable[Mapping[str, Any]],
  question_types: Sequence[str],
  groups: Mapping[str, Sequence[str]],
) -> dict[str, float]:
  """Gives each sentence its most frequent answer of `train` (an unseen one the most frequent of all) and scores `test`.

  train, test: iterables of examples with 'question' (K sentences), 'question_type' int [K], 'answer' int [K];
  question_types: names by index; groups: name -> tuple of question types. Returns {'overall': accuracy in 0..1, and one
  for every group and every question type that occurs}. The smaller answer index wins a tie.
  """
  counts: dict[Any, collections.Counter[int]] = collections.defaultdict(collections.Counter)
  every: collections.Counter[int] = collections.Counter()
  for example in train:
    for sentence, answer in zip(example['question'], example['answer'].tolist()):
      counts[sentence][answer] += 1
      every[answer] += 1
  best = {sentence: _most(count) for sentence, count in counts.items()}
  fallback = _most(every)
  right: collections.Counter[str] = collections.Counter()
  asked: collections.Counter[str] = collections.Counter()
  for example in test:
    for sentence, kind, answer in zip(example['question'], example['question_type'], example['answer'].tolist()):
      name = question_types[kind]
      for key in ['overall', name] + [group for group, names in groups.items() if name in names]:
        asked[key] += 1
        right[key] += best.get(sentence, fallback) == answer
  return {key: right[key] / asked[key] for key in ['overall', *groups, *question_types] if key in asked}


def _most(count: collections.Counter[int]) -> int:
  return min(count, key=lambda answer: (-count[answer], answer))
