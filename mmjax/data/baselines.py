"""What a table of results stands on: the accuracy of an answerer that has seen no picture."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def questions(examples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Of every example its questions, their types and their answers: what `Majority.score` reads, without the picture."""
  return [{key: example[key] for key in ('question', 'question_type', 'answer')} for example in examples]


class Majority:
  """Gives each sentence its most frequent answer of `train`, an unseen one the most frequent of all.

  train: iterable of examples with 'question' (K sentences) and 'answer' int [K]. The smaller answer index wins a tie.
  """

  def __init__(self, train: Iterable[Mapping[str, Any]]):
    counts: dict[Any, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    every: collections.Counter[int] = collections.Counter()
    for example in train:
      for sentence, answer in zip(example['question'], example['answer'].tolist()):
        counts[sentence][answer] += 1
        every[answer] += 1
    self.best = {sentence: _most(count) for sentence, count in counts.items()}
    self.fallback = _most(every)

  def score(
    self,
    test: Iterable[Mapping[str, Any]],
    question_types: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    by_sentence: bool = True,
  ) -> dict[str, float]:
    """{'overall': accuracy in 0..1, and one for every group and every question type that occurs in `test`}.

    test: as `train`, with 'question_type' int [K]; question_types: names by index; groups: name -> question types.
    by_sentence: False for one answer to everything, the most frequent of all.
    """
    right: collections.Counter[str] = collections.Counter()
    asked: collections.Counter[str] = collections.Counter()
    for example in test:
      for sentence, kind, answer in zip(example['question'], example['question_type'], example['answer'].tolist()):
        name = question_types[kind]
        for key in ['overall', name] + [group for group, names in groups.items() if name in names]:
          asked[key] += 1
          right[key] += (self.best.get(sentence, self.fallback) if by_sentence else self.fallback) == answer
    return {key: right[key] / asked[key] for key in ['overall', *groups, *question_types] if key in asked}


def _most(count: collections.Counter[int]) -> int:
  return min(count, key=lambda answer: (-count[answer], answer))
