"""Fresh random models of the published code against ours, in one process: other sizes, seeds and masks each time.

  python -m tests.peers.live [--number 20] [--family bert lxmert ...]

A model is made with HuggingFace's class, its weights drawn anew, saved as save_pretrained does, and from there on
treated as any stored case (tests/oracles): loaded, run, compared output by output, gradients too. UNITER, ViLBERT and
VOLTA have no package that could be run here; METER has no published weights: stored cases or none.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.convert.check import compute, errors, tolerance
from mmjax.convert.tensors import open_tensors, write_tensors

Given = dict[str, np.ndarray]
Case = tuple[str, dict, Given]  # class, config's arguments, inputs


class Draw:
  """Sizes and inputs of a case, all of them from one seed."""

  def __init__(self, seed: int):
    self.rng = np.random.default_rng(seed)
    self.batch, self.length = self.int(1, 4), self.int(3, 9)
    self.heads, self.layers = self.int(1, 4), self.int(1, 4)
    self.width = self.heads * self.int(2, 7) * 2

  def int(self, low: int, high: int) -> int:
    return int(self.rng.integers(low, high))

  def one(self, *choices: Any) -> Any:
    return choices[self.int(0, len(choices))]

  def ids(self, high: int, *shape: int) -> np.ndarray:
    return self.rng.integers(0, high, shape or (self.batch, self.length))

  def mask(self, length: int = 0, batch: int = 0) -> np.ndarray:
    """Every row shows its first few, at least one."""
    shown = self.rng.integers(1, (length or self.length) + 1, (batch or self.batch, 1))
    return (np.arange(length or self.length) < shown).astype(np.int64)

  def floats(self, *shape: int) -> np.ndarray:
    return self.rng.normal(size=shape).astype(np.float32)

  def boxes(self, *shape: int) -> np.ndarray:
    return np.sort(self.rng.random((*shape, 2, 2)), -2).reshape(*shape, 4).astype(np.float32)

  def labels(self, high: int, *shape: int) -> np.ndarray:
    """Some of them -100; the first one never, so that there is a loss."""
    found = np.where(self.rng.random(shape) < 0.4, -100, self.ids(high, *shape))
    found.reshape(-1)[0] = 1
    return found

  def bert(self) -> dict:
    """What configs of BERT's kin share."""
    return {
      'vocab_size': self.int(20, 60),
      'hidden_size': self.width,
      'num_hidden_layers': self.layers,
      'num_attention_heads': self.heads,
      'intermediate_size': self.int(5, 40),
      'max_position_embeddings': self.length + self.int(0, 5),
      'hidden_act': self.one('gelu', 'relu', 'gelu_new'),
      'layer_norm_eps': self.one(1e-12, 1e-5),
    }

  def text(self, config: Mapping) -> Given:
    given = {'input_ids': self.ids(config['vocab_size'])}
    if self.int(0, 3):
      given['attention_mask'] = self.mask()
    if self.int(0, 2):
      given['token_type_ids'] = self.ids(config.get('type_vocab_size', 2))
    return given


def bert(draw: Draw) -> Case:
  config = draw.bert()
  given = draw.text(config)
  if draw.int(0, 2):
    return 'BertModel', config, given
  given |= {'labels': draw.labels(20, *given['input_ids'].shape), 'next_sentence_label': draw.ids(2, draw.batch)}
  return 'BertForPreTraining', config, given


def gpt(draw: Draw) -> Case:
  config = {
    'vocab_size': draw.int(20, 60),
    'n_embd': draw.width,
    'n_layer': draw.layers,
    'n_head': draw.heads,
    'n_positions': draw.length + draw.int(0, 5),
    'n_inner': draw.one(None, 20),
    'activation_function': draw.one('gelu_new', 'relu'),
  }
  given = {'input_ids': draw.ids(config['vocab_size'])} | ({'attention_mask': draw.mask()} if draw.int(0, 2) else {})
  if draw.int(0, 2):
    return 'GPT2Model', config, given
  return 'GPT2LMHeadModel', config, given | {'labels': draw.labels(20, *given['input_ids'].shape)}


def vit(draw: Draw) -> Case:
  patch = draw.int(2, 5)
  config = {key: value for key, value in draw.bert().items() if key not in ('vocab_size', 'max_position_embeddings')}
  config |= {'image_size': patch * draw.int(1, 4), 'patch_size': patch, 'num_channels': draw.int(1, 4)}
  config['hidden_act'] = draw.one('gelu', 'relu')
  given = {'pixel_values': draw.floats(draw.batch, config['num_channels'], config['image_size'], config['image_size'])}
  if draw.int(0, 2):
    return 'ViTModel', config, given
  config['num_labels'] = draw.int(2, 6)
  return 'ViTForImageClassification', config, given | {'labels': draw.ids(config['num_labels'], draw.batch)}


def lxmert(draw: Draw) -> Case:
  config = draw.bert()
  for key in ('num_hidden_layers', 'layer_norm_eps'):  # the code has 1e-12 whatever the config says
    del config[key]
  config |= {f'{kind}_layers': draw.int(1, 4) for kind in 'lrx'} | {'visual_feat_dim': draw.int(3, 9)}
  config |= {'num_qa_labels': draw.int(3, 9), 'num_object_labels': draw.int(3, 9), 'num_attr_labels': draw.int(3, 9)}
  regions = draw.int(1, 6)
  given = draw.text(config)
  given |= {'visual_feats': draw.floats(draw.batch, regions, config['visual_feat_dim'])}
  given |= {'visual_pos': draw.boxes(draw.batch, regions)}
  kind = draw.one('LxmertModel', 'LxmertForQuestionAnswering', 'LxmertForPreTraining')
  if kind == 'LxmertModel' and draw.int(0, 2):
    given['visual_attention_mask'] = draw.mask(regions)
  if kind == 'LxmertForQuestionAnswering':
    given['labels'] = draw.ids(config['num_qa_labels'], draw.batch)
  if kind == 'LxmertForPreTraining':
    given |= {'labels': draw.labels(20, *given['input_ids'].shape), 'matched_label': draw.ids(2, draw.batch)}
    given['ans'] = draw.ids(config['num_qa_labels'], draw.batch)
    for part, size in (('obj', config['num_object_labels']), ('attr', config['num_attr_labels'])):
      given[f'obj_labels.{part}.0'] = draw.ids(size, draw.batch, regions)
    given['obj_labels.feat.0'] = draw.floats(draw.batch, regions, config['visual_feat_dim'])
    for part in ('obj', 'attr', 'feat'):
      given[f'obj_labels.{part}.1'] = np.abs(draw.floats(draw.batch, regions))
  return kind, config, given


def visualbert(draw: Draw) -> Case:
  config = draw.bert() | {'visual_embedding_dim': draw.int(3, 9)}
  regions = draw.int(1, 6)
  kind = draw.one(
    'VisualBertModel',
    'VisualBertForPreTraining',
    'VisualBertForQuestionAnswering',
    'VisualBertForVisualReasoning',
    'VisualBertForMultipleChoice',
    'VisualBertForRegionToPhraseAlignment',
  )
  lead = (draw.batch, draw.int(2, 4)) if kind == 'VisualBertForMultipleChoice' else (draw.batch,)
  flat = int(np.prod(lead))
  shaped = lambda a: a.reshape(*lead, *a.shape[1:])
  given = {
    'input_ids': shaped(draw.ids(config['vocab_size'], flat, draw.length)),
    'attention_mask': shaped(np.maximum(draw.mask(batch=flat), np.arange(draw.length) < 3)),
    'visual_embeds': shaped(draw.floats(flat, regions, config['visual_embedding_dim'])),
    'visual_attention_mask': shaped(draw.mask(regions, flat)),
    'visual_token_type_ids': shaped(draw.ids(2, flat, regions)),
    'token_type_ids': shaped(draw.ids(2, flat, draw.length)),
  }
  if draw.int(0, 2):
    given['image_text_alignment'] = shaped(draw.rng.integers(-1, draw.length, (flat, regions, draw.int(1, 4))))
  if kind == 'VisualBertForPreTraining':
    given['labels'] = draw.labels(20, draw.batch, draw.length + regions)
    given['sentence_image_labels'] = draw.ids(2, draw.batch)
  elif kind == 'VisualBertForQuestionAnswering':
    config['num_labels'] = draw.int(3, 9)
    soft = np.abs(draw.floats(draw.batch, config['num_labels']))
    given['labels'] = (soft / soft.sum(-1, keepdims=True)).astype(np.float32)
  elif kind == 'VisualBertForVisualReasoning':
    config['num_labels'] = draw.int(2, 5)
    given['labels'] = draw.ids(config['num_labels'], draw.batch)
  elif kind == 'VisualBertForMultipleChoice':
    given['labels'] = draw.ids(lead[1], draw.batch)
  elif kind == 'VisualBertForRegionToPhraseAlignment':
    phrases = draw.int(1, 4)
    given['region_to_phrase_position'] = draw.rng.integers(-1, draw.length, (draw.batch, phrases))
    given['region_to_phrase_position'][0, 0] = 1
    soft = np.abs(draw.floats(draw.batch, phrases, regions)) * given['visual_attention_mask'][:, None]
    given['labels'] = (soft / soft.sum(-1, keepdims=True)).astype(np.float32)
  return kind, config, given


def clip(draw: Draw) -> Case:
  shared = lambda: {
    'hidden_size': draw.width,
    'intermediate_size': draw.int(5, 40),
    'num_attention_heads': draw.heads,
    'num_hidden_layers': draw.int(1, 4),
    'hidden_act': draw.one('quick_gelu', 'gelu'),
  }
  patch, vocab = draw.int(2, 5), draw.int(20, 60)
  config = {
    'text_config': shared() | {'vocab_size': vocab, 'max_position_embeddings': draw.length, 'eos_token_id': vocab - 1},
    'vision_config': shared() | {'image_size': patch * draw.int(1, 4), 'patch_size': patch},
    'projection_dim': draw.int(4, 12),
  }
  ids = draw.ids(vocab - 1)
  ids[:, -1] = vocab - 1
  size = config['vision_config']['image_size']
  given = {'input_ids': ids, 'pixel_values': draw.floats(draw.batch, 3, size, size)}
  mask = {'attention_mask': draw.mask()} if draw.int(0, 2) else {}
  kind = draw.one(
    'CLIPModel', *(f'CLIP{tower}Model{end}' for tower in ('Text', 'Vision') for end in ('', 'WithProjection'))
  )
  if kind == 'CLIPModel':
    return kind, config, given | mask
  tower, read = ('text', 'input_ids') if 'Text' in kind else ('vision', 'pixel_values')
  own = config[f'{tower}_config'] | {'projection_dim': config['projection_dim']}
  return kind, own, {read: given[read]} | (mask if tower == 'text' else {})


def vilt(draw: Draw) -> Case:
  patch = draw.int(2, 5)
  config = draw.bert() | {'image_size': patch * draw.int(2, 5), 'patch_size': patch, 'modality_type_vocab_size': 3}
  kind = draw.one(
    'ViltModel',
    'ViltForMaskedLM',
    'ViltForQuestionAnswering',
    'ViltForImagesAndTextClassification',
    'ViltForImageAndTextRetrieval',
  )
  given = draw.text(config)
  images = (2,) if kind == 'ViltForImagesAndTextClassification' else ()
  rows, columns = draw.int(1, 6), draw.int(1, 6)
  given['pixel_values'] = draw.floats(draw.batch, *images, 3, rows * patch, columns * patch)
  if draw.int(0, 2):
    down, across = (draw.rng.integers(1, n + 1, (draw.batch, *images, 1, 1)) * patch for n in (rows, columns))
    filled = (np.arange(rows * patch)[:, None] < down) & (np.arange(columns * patch) < across)
    given['pixel_mask'] = filled.astype(np.int64)
  if images:
    config |= {'num_images': 2, 'num_labels': draw.int(2, 5)}
    given['labels'] = draw.ids(config['num_labels'], draw.batch)
  elif kind == 'ViltForQuestionAnswering':
    config['num_labels'] = draw.int(3, 9)
    given['labels'] = draw.rng.random((draw.batch, config['num_labels'])).astype(np.float32)
  elif kind == 'ViltForMaskedLM':
    given['labels'] = draw.labels(20, *given['input_ids'].shape)
  return kind, config, given


def blip(draw: Draw) -> Case:
  kind = draw.one('BlipForConditionalGeneration', 'BlipForQuestionAnswering', 'BlipForImageTextRetrieval')
  patch, heads = draw.int(2, 5), draw.int(1, 4)
  vision = {
    'hidden_size': 2 * heads * draw.int(2, 5),
    'num_attention_heads': heads,
    'intermediate_size': draw.int(5, 40),
  }
  vision |= {'num_hidden_layers': draw.int(1, 4), 'image_size': patch * draw.int(1, 4), 'patch_size': patch}
  text = draw.bert() | {'hidden_act': draw.one('gelu', 'relu')}
  if kind == 'BlipForQuestionAnswering':  # the decoder reads the question where it read the image
    vision |= {'hidden_size': text['hidden_size'], 'num_attention_heads': draw.heads}
  config = {'text_config': text, 'vision_config': vision, 'image_text_hidden_size': draw.int(4, 12)}
  given = {'input_ids': draw.ids(text['vocab_size']), 'attention_mask': draw.mask()}
  given['pixel_values'] = draw.floats(draw.batch, 3, vision['image_size'], vision['image_size'])
  if kind != 'BlipForImageTextRetrieval':
    length = draw.int(2, draw.length + 1) if kind == 'BlipForQuestionAnswering' else draw.length
    given['labels'] = draw.labels(20, draw.batch, length)
    given['labels'][0, 1] = 1  # the first one is followed by it
    if kind == 'BlipForQuestionAnswering':
      given['decoder_input_ids'] = draw.ids(text['vocab_size'], draw.batch, length)
      given['decoder_attention_mask'] = draw.mask(length)
  return kind, config, given


def imagegpt(draw: Draw) -> Case:
  _, config, given = gpt(draw)
  config |= {'activation_function': draw.one('quick_gelu', 'gelu_new')}
  return 'ImageGPTForCausalImageModeling', config, given | {'labels': draw.labels(18, *given['input_ids'].shape)}


def whisper(draw: Draw) -> Case:
  config = {
    'vocab_size': draw.int(20, 60),
    'num_mel_bins': draw.int(3, 9),
    'd_model': draw.width,
    'max_source_positions': draw.int(4, 12),
    'max_target_positions': draw.length + draw.int(0, 5),
    'activation_function': draw.one('gelu', 'relu'),
    'pad_token_id': 0,
    'bos_token_id': 1,
    'eos_token_id': 1,
    'decoder_start_token_id': 2,
  }
  for half in ('encoder', 'decoder'):
    heads = draw.one(draw.heads, 1)
    config |= {f'{half}_layers': draw.int(1, 4), f'{half}_attention_heads': heads, f'{half}_ffn_dim': draw.int(5, 40)}
  given = {'input_features': draw.floats(draw.batch, config['num_mel_bins'], 2 * config['max_source_positions'])}
  given['decoder_input_ids'] = draw.ids(config['vocab_size'])
  if draw.int(0, 2):
    given['decoder_attention_mask'] = draw.mask()
  if draw.int(0, 2):
    return 'WhisperModel', config, given
  return (
    'WhisperForConditionalGeneration',
    config,
    given | {'labels': draw.labels(20, *given['decoder_input_ids'].shape)},
  )


FAMILIES = {f.__name__: f for f in (bert, gpt, vit, lxmert, visualbert, clip, vilt, blip, imagegpt, whisper)}


def flat(value: Any, name: str = '') -> Iterator[tuple[str, np.ndarray]]:
  """The tensors of an output, its tuples and dicts, under the names that stored cases have."""
  import torch

  join = lambda key: f'{name}.{key}' if name else str(key)
  if isinstance(value, torch.Tensor):
    yield name, value.detach().numpy()
  elif isinstance(value, Mapping):
    for key, part in value.items():
      yield from flat(part, join(key))
  elif isinstance(value, (tuple, list)):
    for n, part in enumerate(value):
      yield from flat(part, join(n))


def write(folder: Path, case: Case, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Makes the peer's model, saves it and its inputs, and runs it, in float32 and in float64.

  Returns the outputs and the gradients of the loss, of either run.
  """
  import torch
  import transformers

  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  kind, arguments, given = case
  torch.manual_seed(seed)
  made = getattr(transformers, kind)
  model = made(made.config_class(**arguments, attn_implementation='eager')).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      normed = 'norm' in name.lower() or '.ln_' in name or name.startswith('ln_') or 'logit_fc.2' in name
      spread = 0.3 if normed else 0.5 if 'embedding' in name else 0.2
      parameter.normal_(0, spread).add_(1.0 if normed and name.endswith('weight') else 0.0)
  model.save_pretrained(folder)
  write_tensors(folder / 'inputs.safetensors', {k: (a.dtype, a.shape) for k, a in given.items()}, given.values())
  return ran(copy.deepcopy(model), given), ran(model.double(), given)


def ran(model: Any, given: Given) -> dict[str, np.ndarray]:
  """The model's outputs and the gradients of its loss. Spoils the model."""
  import torch

  called: dict[str, Any] = {}
  for name, a in given.items():
    key, *path = name.split('.')
    value = torch.tensor(a).to(model.dtype) if a.dtype == np.float32 else torch.tensor(a)
    if path:
      called.setdefault(key, {}).setdefault(path[0], [None, None])[int(path[1])] = value
    else:
      called[key] = value
  out = model(**called, output_attentions=True, output_hidden_states=True, return_dict=True)
  found = dict(flat(out))
  if out.get('loss') is not None:
    out['loss'].sum().backward()
    with torch.no_grad():  # gradients in the weights' place are saved under the weights' names, as files have them
      for parameter in model.parameters():
        parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    with tempfile.TemporaryDirectory() as place:
      model.save_pretrained(place)
      grads = {f'grad::{name}': np.array(a) for name, a in open_tensors(Path(place)).items()}
      found |= {name: gradient for name, gradient in grads.items() if gradient.any()}  # the rest: used by nothing
  return found


def compared(family: str, seed: int) -> tuple[str, dict[str, tuple[float | None, float]]]:
  """(the class, output -> (its error, the most that it may be)): the tolerance of stored cases or, where the peer's own
  rounding is worse than that, thrice the peer's. What is rounding only (a key's bias has no gradient) is left out.
  """
  import torch

  case = FAMILIES[family](Draw(seed))
  chance = torch.multinomial  # by which ViLT orders its patches
  torch.multinomial = lambda weights, number, replacement=False: torch.arange(number) % len(weights)
  try:
    with tempfile.TemporaryDirectory() as folder:
      wanted, exact = write(Path(folder), case, seed)
      shapes = {name: [list(a.shape), str(a.dtype)] for name, a in wanted.items()}
      (Path(folder) / 'case.json').write_text(json.dumps({'outputs': shapes}))
      found = errors(compute(folder), wanted)
  finally:
    torch.multinomial = chance
  noise = {name: e or 0.0 for name, e in errors(wanted, exact).items()}
  return case[0], {
    name: (e, max(tolerance(family, name), 3 * noise[name]))
    for name, e in found.items()
    if name in noise and noise[name] < 1e-2  # float64 may have none at all
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--number', type=int, default=20, help='models a family')
  parser.add_argument('--first', type=int, default=0, help='the first seed')
  parser.add_argument('--family', nargs='+', default=list(FAMILIES), choices=FAMILIES)
  args = parser.parse_args()
  failed = 0
  for family in args.family:
    for seed in range(args.first, args.first + args.number):
      kind, found = compared(family, seed)
      share = lambda item: float('inf') if item[1][0] is None else item[1][0] / item[1][1]
      name, (error, most) = max(found.items(), key=share)
      bad = error is None or not error <= most
      failed += bad
      said = 'unsupported' if error is None else f'{error:.1e}'
      mark = '  FAILED' if bad else ''
      print(f'{family:10} {seed:3} {kind:36} {len(found):4} {said:>11}  {name} (at most {most:.0e}){mark}', flush=True)
  print(f'{failed} failed')
  raise SystemExit(int(failed > 0))


if __name__ == '__main__':
  main()
