"""Runs the stored oracle cases: the peer's weights and inputs in, every one of its outputs compared."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from mmjax.convert.load import load, read
from mmjax.convert.names import to_theirs
from mmjax.fusion.layers import MAPS, STATES
from mmjax.models.visualbert import VisualEmbed
from mmjax.objectives import answer_distribution, answers, lxmert_pretraining

FOLDER = Path(__file__).parent / 'oracles'


def errors(case: str) -> dict[str, tuple[float, float]]:
  """output -> (max|ours - theirs| / max|theirs|, tolerance). An output that we do not compute is a KeyError."""
  folder = FOLDER / case
  given, wanted = load_file(folder / 'inputs.safetensors'), load_file(folder / 'outputs.safetensors')
  with jax.default_matmul_precision('highest'):
    model, variables = load(folder)
    _, rows, _, _ = read(folder)
    ours = (_lxmert if case.startswith('lxmert') else _visualbert)(model, variables, given, rows)
  loose = case.endswith('_eps')
  result = {}
  for name, theirs in wanted.items():
    keep = np.abs(theirs) < 1e30
    difference = np.abs(np.asarray(ours[name]) - theirs)[keep].max()
    result[name] = float(difference / np.abs(theirs[keep]).max()), 2e-5 if loose or name.startswith('grad::') else 1e-5
  return result


def _lxmert(model, variables, given, rows):
  """Outputs under HuggingFace's names and the authors' (LXRTPretraining)."""
  ids, types = given['input_ids'], given['token_type_ids']
  mask, regions, boxes = given['attention_mask'] > 0, given['visual_feats'], given.get('visual_pos', given.get('pos'))
  seen = jnp.asarray(given['visual_attention_mask'] > 0)
  authors = 'pos' in given

  def run(params, regions_mask):
    return model.apply(
      {'params': params}, ids, mask, regions, boxes, regions_mask, types, train=False, mutable=[MAPS, STATES]
    )

  def loss(params):
    out, _ = run(params, None if authors else seen)
    if not authors:
      losses, _ = answers(
        out, {'answer': given['labels'], 'question_type': np.ones((3, 1), bool), 'weight': np.ones(3)}
      )
    else:
      losses, _ = lxmert_pretraining(
        out,
        {
          'word_label': given['masked_lm_labels'],
          'matched': given['matched_label'],
          'answer': given['ans'],
          'weight': np.ones(3),
          **{
            f'{ours}{part}': given[f'obj_labels.{theirs}.{n}']
            for ours, theirs in (('object', 'obj'), ('attribute', 'attr'), ('feature', 'feat'))
            for n, part in enumerate(('', '_weight'))
          },
        },
      )
    parts = {name: weight * total / count for name, (total, count, weight) in losses.items()}
    return sum(parts.values()), parts

  out, captured = run(variables['params'], seen)
  maps, states = captured[MAPS]['encoder'], captured[STATES]['encoder']
  ours = {'language_output': out['t'], 'vision_output': out['v'], 'pooled_output': out['pooled']}
  ours |= {f'language_attentions.{n}': m for n, m in enumerate(maps['group0']['sub0/t<t'])}
  ours |= {f'vision_attentions.{n}': m for n, m in enumerate(maps['group1']['sub0/v<v'])}
  ours |= {f'cross_encoder_attentions.{n}': m for n, m in enumerate(maps['group2']['sub0/t<v'])}
  hidden = lambda s, own: np.concatenate([states[own][s], states['group2'][s]])
  ours |= {f'language_hidden_states.{n}': h for n, h in enumerate(hidden('t', 'group0'))}
  ours |= {f'vision_hidden_states.{n}': h for n, h in enumerate(hidden('v', 'group1'))}
  if not model.num_answers:
    return ours
  (total, parts), grads = jax.value_and_grad(loss, has_aux=True)(variables['params'])
  ours |= {f'grad::{name}': g for name, g in to_theirs(rows, grads).items()} | {'loss': total}
  ours['question_answering_score'] = out['answers']
  if authors:
    plain, _ = run(variables['params'], None)
    order = ('words', 'matched', 'objects', 'attributes', 'features', 'answers')
    ours |= {
      f'{part}{name}': which[key]
      for part, which in (('', plain), ('masked_', out))
      for name, key in (('lang', 't'), ('visn', 'v'), ('pooled', 'pooled'))
    }
    ours |= {
      'lm_scores': plain['words'],
      'matched_scores': plain['matched'],
      'answer_score': plain['answers'],
      'obj_head.obj': plain['objects'],
      'obj_head.attr': plain['attributes'],
      'obj_head.feat': plain['features'],
      'losses': jnp.stack([parts[name] for name in order])[None],
    }
  return ours


def _visualbert(model, variables, given, rows):
  """Outputs under HuggingFace's names."""
  mask, seen = given['attention_mask'] > 0, given['visual_attention_mask'] > 0

  def run(params):
    return model.apply(
      {'params': params},
      given['input_ids'],
      mask,
      given['visual_embeds'],
      None,
      seen,
      given.get('image_text_alignment'),
      given['token_type_ids'],
      given['visual_token_type_ids'],
      train=False,
      mutable=[MAPS, STATES],
    )

  def loss(params):
    scores = run(params)[0]['answers']
    batch = {'answer_scores': given['labels'], 'answer': given['labels'].argmax(-1)}
    rows = {'question_type': np.ones((len(scores), 1), bool), 'weight': np.ones(len(scores))}
    (total, count, _), *_ = answer_distribution({'answers': scores}, batch | rows)[0].values()
    return total / count, jax.nn.log_softmax(scores)  # HuggingFace returns log-probabilities where labels are given

  out, captured = run(variables['params'])
  maps, states = captured[MAPS]['encoder']['group0'], captured[STATES]['encoder']['group0']
  ours = {
    f'attentions.{n}': np.concatenate([t, v], 2)
    for n, (t, v) in enumerate(zip(maps['sub0/t<tv'], maps['sub0/v<tv'], strict=True))
  }
  hidden = [np.concatenate([t, v], 1) for t, v in zip(states['t'], states['v'], strict=True)]
  ours |= {f'hidden_states.{n + 1}': h for n, h in enumerate(hidden)}
  ours |= {
    'last_hidden_state': hidden[-1],
    'pooler_output': out['pooled'],
    'hidden_states.0': _embedded(model, variables, given),
  }
  if model.num_answers:
    (ours['loss'], ours['logits']), grads = jax.value_and_grad(loss, has_aux=True)(variables['params'])
    ours |= {f'grad::{name}': g for name, g in to_theirs(rows, grads).items()}
  return ours


def _embedded(model, variables, given):
  embed = VisualEmbed(
    model.vocab, model.positions, model.types, model.width, model.eps, word_padding=model.word_padding
  )
  x = embed.apply(
    {'params': variables['params']['embed']},
    given['input_ids'],
    given['visual_embeds'],
    given.get('image_text_alignment'),
    given['token_type_ids'],
    given['visual_token_type_ids'],
    train=False,
  )
  return np.concatenate([x['t'], x['v']], 1)


def main():
  """Prints each case with its number of outputs and the largest error; the command behind docs/parity.md."""
  print(f'{"case":24} {"outputs":>7}  {"largest error":>13}  of')
  for case in sorted(folder.name for folder in FOLDER.iterdir()):
    found = errors(case)
    name, (error, tolerance) = max(found.items(), key=lambda item: item[1][0] / item[1][1])
    print(f'{case:24} {len(found):7}  {error:13.1e}  {name} (at most {tolerance:.0e})')


if __name__ == '__main__':
  main()
