"""How a folder with a model is given pictures and words, which no model file says: kept by a run, or as published."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mmjax.convert.load import save
from mmjax.convert.tensors import read_json
from mmjax.data import tokens
from mmjax.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of pixels in 0..1: preprocessing of CLIP and of BLIP
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
READING, TOKENIZER, PIECES, PROCESSOR = 'reading.json', 'tokenizer.json', 'vocab.txt', 'preprocessor_config.json'


@dataclasses.dataclass(frozen=True)
class Reading:
  """How one checkpoint is.

  side: pixels; first: the ids that begin what BLIP reads and what it writes (-1: as the tokeniser says); end: the id
  that ends what is written; length: most words of a text; prompt: what a label is put into.
  """

  side: int
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  std: tuple[float, ...] = (0.5, 0.5, 0.5)
  length: int = 20
  first: tuple[int, int] = (-1, -1)
  end: int = 3
  prompt: str = '{}'

  def __post_init__(self) -> None:
    """Raises ValueError for what no picture or word can be read by."""
    for name, right in READS.items():
      if not right(getattr(self, name)):
        raise ValueError(f'{name}: found {getattr(self, name)!r}')


def _all(count: int, kind: Any, least: float) -> Callable[[Any], bool]:
  return lambda found: (
    isinstance(found, tuple) and len(found) == count and all(isinstance(x, kind) and x >= least for x in found)
  )


def _whole(least: int) -> Callable[[Any], bool]:
  return lambda found: isinstance(found, int) and found >= least


READS: dict[str, Callable[[Any], bool]] = {  # which values of a Reading make sense
  'side': _whole(1),
  'mean': _all(3, int | float, -math.inf),
  'std': _all(3, int | float, 1e-6),
  'length': _whole(3),
  'first': _all(2, int, -1),
  'end': _whole(0),
  'prompt': lambda found: isinstance(found, str) and '{}' in found,
}


def keep_model(folder: Path, model: Any, variables: Mapping, tokenizer: Tokenizer, reading: Reading) -> None:
  """Writes a trained model into a folder for experiments.ask, in the place of what was there, whole or not at all."""
  made = folder.with_name(f'.{folder.name}.new')
  shutil.rmtree(made, ignore_errors=True)
  save(model, variables, made)
  tokenizer.save(str(made / TOKENIZER))
  (made / READING).write_text(json.dumps(dataclasses.asdict(reading), indent=2) + '\n')
  shutil.rmtree(folder, ignore_errors=True)
  made.rename(folder)


def reading_of(folder: Path, model: Any) -> Reading:
  """That of a folder: what a run has kept there, or what the published checkpoint's own files say."""
  if (folder / READING).is_file():
    found: dict[str, Any] = {
      key: tuple(v) if isinstance(v, list) else v for key, v in read_json(folder / READING).items()
    }
    try:
      return Reading(**found)
    except (TypeError, ValueError) as error:
      raise UserError(f'{folder / READING}: damaged ({error})') from error
  config = read_json(folder / 'config.json') if (folder / 'config.json').is_file() else {}
  text = config.get('source', {}).get('config', config).get('text_config', {})
  pixels = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
  mean, std = (tuple(pixels.get(key, default)) for key, default in (('image_mean', CLIP_MEAN), ('image_std', CLIP_STD)))
  first = (-1, text.get('bos_token_id', 30522))
  return Reading(model.image.image, mean, std, 77, first, text.get('sep_token_id', 102), 'a photo of a {}')


def tokenizer_of(folder: Path) -> Tokenizer:
  """The tokeniser of a folder. Raises UserError where there is none, or a damaged one."""
  if (folder / TOKENIZER).is_file():
    try:
      found = Tokenizer.from_str((folder / TOKENIZER).read_text())
    except Exception as error:  # the library raises no narrower one
      raise UserError(f'{folder / TOKENIZER}: {error}, expected a file of the tokenizers library') from error
    found.no_padding()
    found.no_truncation()
    return found
  if (folder / PIECES).is_file():
    return tokens.wordpiece(folder / PIECES)
  raise UserError(f'{folder}: expected {TOKENIZER} or {PIECES}, without which no word can be read')
