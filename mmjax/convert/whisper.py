"""Whisper's checkpoints: HuggingFace's WhisperModel and WhisperForConditionalGeneration, and CTranslate2's files."""

from collections.abc import Mapping

from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, embed, fused, layers, norm
from mmjax.convert.plan import (
  Arrays,
  Config,
  Plan,
  Shapes,
  activation,
  captured,
  cross_entropy,
  fixed,
  inside,
  learnt,
  number,
)
from mmjax.errors import UserError
from mmjax.models.whisper import SoundEncoder, TextDecoder, Whisper

CLASSES = ('WhisperModel', 'WhisperForConditionalGeneration')
ENGINE = 'WhisperSpec'  # CTranslate2's
ACTIVATIONS = {0: 'relu', 1: 'gelu_tanh', 3: 'gelu', 4: 'quick_gelu'}  # CTranslate2's numbers
SETTINGS = {
  'decoder.pre_norm': 1,
  'decoder.alibi': 0,
  'decoder.scale_embeddings': 0,
  'decoder.start_from_zero_embedding': 0,
}
HEAD = 64  # channels, of all published ones


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, {'scale_embedding': False})
  prefix = '' if kind == 'WhisperModel' else 'model'
  sizes = {
    'width': number(config, 'd_model', 384),
    'activation': activation(config, 'activation_function'),
    'dropout': number(config, 'dropout', 0.0),
    'attention_dropout': number(config, 'attention_dropout', 0.0),
    'mlp_dropout': number(config, 'activation_dropout', 0.0),
  }
  sound = SoundEncoder(
    frames=2 * number(config, 'max_source_positions', 1500),
    bins=number(config, 'num_mel_bins', 80),
    schedule=f'{number(config, "encoder_layers", 4)}*[a<a]',
    heads=number(config, 'encoder_attention_heads', 6),
    mlp=number(config, 'encoder_ffn_dim', 1536),
    **sizes,
  )
  text = TextDecoder(
    vocab=number(config, 'vocab_size', 51865),
    positions=number(config, 'max_target_positions', 448),
    padding=number(config, 'pad_token_id', 50256),
    schedule=f'{number(config, "decoder_layers", 4)}*[t<t noffn; t<a]',
    heads=number(config, 'decoder_attention_heads', 6),
    mlp=number(config, 'decoder_ffn_dim', 1536),
    **sizes,
  )
  model = Whisper(sound, text)
  tied = {'proj_out.weight': 'model.decoder.embed_tokens.weight'} if prefix else {}
  return Plan(config, model, rows(model, prefix), example(model), outputs, tied)


def rows(model: Whisper, prefix: str) -> list[Row]:
  """prefix: 'model' or ''."""
  heard = attention('sub0_a', 'self_attn', norm_of='self_attn_layer_norm')
  read = attention('sub0_t', 'self_attn', norm_of='self_attn_layer_norm')
  cross = attention('sub1_t', 'encoder_attn', 'sub1_a', norm_of='encoder_attn_layer_norm')
  found = [
    Row('sound/sound/conv0/kernel', ('encoder.conv1.weight',), 'conv_t'),
    Row('sound/sound/conv0/bias', ('encoder.conv1.bias',)),
    Row('sound/sound/conv1/kernel', ('encoder.conv2.weight',), 'conv_t'),
    Row('sound/sound/conv1/bias', ('encoder.conv2.bias',)),
    Row('sound/sound/position', ('encoder.embed_positions.weight',)),
    *layers(heard + ffn('sub0_a'), 'sound/encoder/group0', 'encoder.layers.{n}', model.sound.schedule),
    *norm('sound/norm', 'encoder.layer_norm'),
    *embed('text/word', 'decoder.embed_tokens'),
    *embed('text/position', 'decoder.embed_positions'),
    *layers(read + cross + ffn('sub1_t'), 'text/encoder/group0', 'decoder.layers.{n}', model.text.schedule),
    *norm('text/norm', 'decoder.layer_norm'),
  ]
  return [row.below('', prefix) for row in found]


def attention(owner: str, theirs: str, source: str = '', *, norm_of: str) -> list[Row]:
  """An attention and its norm. source: the owner of key, which has no bias, and of value, where it is another."""
  return [
    *dense(f'{owner}/query', f'{theirs}.q_proj'),
    Row(f'{source or owner}/key/kernel', (f'{theirs}.k_proj.weight',), 'dense'),
    *dense(f'{source or owner}/value', f'{theirs}.v_proj'),
    *dense(f'{owner}/out', f'{theirs}.out_proj'),
    *norm(f'{owner}/norm', norm_of),
  ]


def ffn(owner: str) -> list[Row]:
  return [
    *norm(f'{owner}/ffn_norm', 'final_layer_norm'),
    *dense(f'{owner}/ffn/expand', 'fc1'),
    *dense(f'{owner}/ffn/project', 'fc2'),
  ]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  mask = given['decoder_attention_mask'] > 0 if 'decoder_attention_mask' in given else None
  called = (given['input_features'].swapaxes(1, 2), given['decoder_input_ids'], mask)
  out, maps, states = captured(plan, variables, *called)
  sound = inside(maps['sound'], states['sound'], 'a', last=out['a'])
  text = inside(maps['text'], states['text'], 't', last=out['t'])
  found = {f'encoder_{name}': value for name, value in sound.items()}
  found |= {f'decoder_{name}': value for name, value in text.items()}
  cross = maps['text']['encoder']['group0']['sub1/t<a']
  found |= {f'cross_attentions.{n}': weights for n, weights in enumerate(cross)}
  found |= {'encoder_last_hidden_state': out['a'], 'last_hidden_state': out['t'], 'logits': out['words']}

  def loss(run):
    return cross_entropy(run(*called)['words'], given['labels']), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})


def plan_engine(config: Config, shapes: Shapes, kind: str) -> Plan:
  """CTranslate2's, whose sizes are the tensors', and heads those that all published weights have.

  Query, key and value stand in one tensor there, so that keys have a bias too (zeros).
  """
  settings = number(config, 'settings')
  for name, wanted in SETTINGS.items():
    if settings.get(name, wanted) != wanted:
      raise UserError(f'{name} {settings[name]}: expected {wanted}')
  code = settings.get('decoder.activation', 3)
  if code not in ACTIVATIONS:
    raise UserError(f'decoder.activation {code}: expected one of {tuple(ACTIVATIONS)}')
  width, bins, _ = shapes['encoder.conv1.weight']
  vocab, positions = (shapes[f'decoder.{name}'][0] for name in ('embeddings.weight', 'position_encodings.encodings'))
  heads = lambda half: settings.get(f'{half}.num_heads', width // HEAD)
  count = lambda half: len(
    {name.split('.')[1] for name in shapes if name.startswith(f'{half}.layer_') and name.split('.')[1][6:].isdigit()}
  )
  mlp = lambda half: shapes[f'{half}.layer_0.ffn.linear_0.weight'][0]
  sound = SoundEncoder(
    frames=2 * shapes['encoder.position_encodings.encodings'][0],
    bins=bins,
    schedule=f'{count("encoder")}*[a<a]',
    width=width,
    heads=heads('encoder'),
    mlp=mlp('encoder'),
    key_bias=True,
  )
  text = TextDecoder(
    vocab=vocab,
    positions=positions,
    schedule=f'{count("decoder")}*[t<t noffn; t<a]',
    width=width,
    heads=heads('decoder'),
    mlp=mlp('decoder'),
    activation=ACTIVATIONS[code],
    key_bias=True,
  )
  model = Whisper(sound, text)
  tied = {'decoder.projection.weight': 'decoder.embeddings.weight'}
  return Plan(config, model, rows_engine(model), example(model), outputs, tied)


def rows_engine(model: Whisper) -> list[Row]:
  norm = lambda ours, theirs: [Row(f'{ours}/scale', (f'{theirs}.gamma',)), Row(f'{ours}/bias', (f'{theirs}.beta',))]
  itself = lambda owner: [
    *fused(owner, 'self_attention.linear_0.weight', 'self_attention.linear_0.bias'),
    *dense(f'{owner}/out', 'self_attention.linear_1'),
    *norm(f'{owner}/norm', 'self_attention.layer_norm'),
  ]
  both = [
    Row(f'sub1_a/{part}/{kind}', (f'attention.linear_1.{theirs}',), layout, part=(i, 2))
    for i, part in enumerate(('key', 'value'))
    for kind, theirs, layout in (('kernel', 'weight', 'dense'), ('bias', 'bias', 'same'))
  ]
  cross = [
    *dense('sub1_t/query', 'attention.linear_0'),
    *both,
    *dense('sub1_t/out', 'attention.linear_2'),
    *norm('sub1_t/norm', 'attention.layer_norm'),
  ]
  forward = lambda owner: [
    *norm(f'{owner}/ffn_norm', 'ffn.layer_norm'),
    *dense(f'{owner}/ffn/expand', 'ffn.linear_0'),
    *dense(f'{owner}/ffn/project', 'ffn.linear_1'),
  ]
  heard, written = itself('sub0_a') + forward('sub0_a'), itself('sub0_t') + cross + forward('sub1_t')
  return [
    Row('sound/sound/conv0/kernel', ('encoder.conv1.weight',), 'conv_t'),
    Row('sound/sound/conv0/bias', ('encoder.conv1.bias',)),
    Row('sound/sound/conv1/kernel', ('encoder.conv2.weight',), 'conv_t'),
    Row('sound/sound/conv1/bias', ('encoder.conv2.bias',)),
    Row('sound/sound/position', ('encoder.position_encodings.encodings',)),
    *layers(heard, 'sound/encoder/group0', 'encoder.layer_{n}', model.sound.schedule),
    *norm('sound/norm', 'encoder.layer_norm'),
    *embed('text/word', 'decoder.embeddings'),
    Row('text/position/embedding', ('decoder.position_encodings.encodings',)),
    *layers(written, 'text/encoder/group0', 'decoder.layer_{n}', model.text.schedule),
    *norm('text/norm', 'decoder.layer_norm'),
  ]
