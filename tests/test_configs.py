"""The configs: every variant loads, holds plain values only, and `base` holds the papers' numbers."""

import pytest

from configs import (
  blip,
  clip,
  composed_search,
  dalle,
  fusion_ablation,
  lxmert,
  mbt,
  mult,
  records,
  sensors,
  sentiment,
  series,
  speech_retrieval,
  uniter,
  vilbert,
  visualbert,
)
from mmjax import cli
from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.fusion.schedule import parse
from mmjax.models import vilbert as vilbert_model
from mmjax.models.mult import MulT
from mmjax.workdir import flatten

QUESTIONS = {'lxmert': lxmert, 'visualbert': visualbert, 'uniter': uniter, 'vilbert': vilbert}
PAIRS = {'clip': clip, 'blip': blip, 'dalle': dalle, 'composed_search': composed_search, 'sentiment': sentiment}
SEVERAL = {'mbt': mbt, 'mult': mult, 'sensors': sensors, 'records': records}
FILES = QUESTIONS | PAIRS | SEVERAL | {'fusion_ablation': fusion_ablation, 'series': series}
FILES |= {'speech_retrieval': speech_retrieval}
DEFAULTS = dict.fromkeys((*QUESTIONS, 'fusion_ablation'), 'sort_of_clevr') | {
  'clip': 'twemoji',
  'blip': 'twemoji',
  'dalle': 'scenes',
}
DEFAULTS |= {'mbt': 'clips', 'mult': 'witnesses', 'sensors': 'robot', 'records': 'records'}
DEFAULTS |= {'composed_search': 'products', 'sentiment': 'posts', 'series': 'all'}
DEFAULTS |= {'speech_retrieval': 'prompts'}
VARIANTS = [(name, variant) for name, module in FILES.items() for variant in module.VARIANTS]


def load(name, variant):
  return cli.load_config(f'configs/{name}.py:{variant}')


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_a_config_holds_plain_values_only(name, variant):
  for key, value in flatten(load(name, variant).to_dict()).items():
    items = value if type(value) is tuple else (value,)
    assert {type(item) for item in items} <= {bool, int, float, str}, key


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_variants_have_the_same_keys_of_the_same_types(name, variant):
  kinds = lambda config: {key: type(value) for key, value in flatten(config.to_dict()).items()}
  assert kinds(load(name, variant)) == kinds(FILES[name].get_config())


@pytest.mark.parametrize(('name', 'variant'), [(name, variant) for name, variant in VARIANTS if name in QUESTIONS])
def test_a_schedule_reads_what_the_models_have(name, variant):
  groups = parse(load(name, variant).model.schedule).groups
  assert {stream for group in groups for sub in group.subs for stream in sub.streams} == {'t', 'v'}


@pytest.mark.parametrize('name', FILES)
def test_the_default_is_the_first_variant(name):
  assert next(iter(FILES[name].VARIANTS)) == DEFAULTS[name]
  assert FILES[name].get_config().to_dict() == load(name, DEFAULTS[name]).to_dict()


@pytest.mark.parametrize(('name', 'variant'), VARIANTS)
def test_an_unknown_key_is_refused_with_its_nearest(name, variant):
  with pytest.raises(UserError, match=r"unknown config key 'optim\.step'; did you mean 'optim\.steps'\?"):
    cli.override(load(name, variant), 'optim.step', '8')


@pytest.mark.parametrize('name', FILES)
def test_an_unknown_variant_is_refused(name):
  with pytest.raises(UserError, match=r"unknown variant 'tyni' .*; did you mean 'tiny'"):
    load(name, 'tyni')


@pytest.mark.parametrize('name', ['lxmert', 'visualbert'])
@pytest.mark.parametrize('variant', ['as_published', 'base'])
def test_as_published_departs_in_nothing(name, variant):
  c = load(name, variant)
  assert (c.model.norm, c.model.geometry, c.blind) == ('post', False, False)


def test_base_is_lxmert():
  """Section 3.3 of the paper and its released code: sizes of src/lxrt/modeling.py, recipe of run/vqa_finetune.bash."""
  c = load('lxmert', 'base')
  assert c.model.schedule == schedules.LXMERT
  assert (c.model.width, c.model.heads, c.model.mlp, c.model.num_features) == (768, 12, 3072, 2048)
  assert (c.model.dropout, c.model.attention_dropout, c.model.init_std) == (0.1, 0.1, 0.02)
  assert (c.objective, c.optim.name, c.optim.schedule) == ('soft_answers', 'bert_adam', 'linear')
  assert (c.data.images, c.optim.lr, c.optim.clip, c.optim.decay, c.optim.decay_on) == (32, 5e-5, 5.0, 0.01, 'all')
  assert c.optim.warmup == c.optim.steps // 10


def test_base_is_visualbert():
  """The released configs/vqa/fine-tune.json on bert-base's sizes; no decay on biases and norms, as in their code."""
  c = load('visualbert', 'base')
  assert c.model.schedule == schedules.SINGLE_STREAM and c.model.answer_from == 'last'
  assert (c.model.width, c.model.heads, c.model.mlp) == (768, 12, 3072)
  assert (c.data.images, c.optim.lr, c.optim.clip, c.optim.decay_on) == (64, 2e-5, 1.0, 'kernels')
  assert c.optim.warmup == c.optim.steps // 10


def test_base_is_uniter():
  """Section 3.1 and the released config/train-vqa-base-4gpu.json."""
  c = load('uniter', 'base')
  assert c.model.schedule == schedules.SINGLE_STREAM
  assert (c.model.width, c.model.heads, c.model.mlp) == (768, 12, 3072)
  assert (c.optim.name, c.optim.lr, c.optim.clip, c.optim.b2) == ('adamw', 8e-5, 2.0, 0.98)
  assert (c.optim.steps, c.optim.warmup) == (6000, 600)
  assert c.place == 0  # it reads boxes of its own


def test_base_is_vilbert():
  """The released bert_base_6layer_6conect and vlbert_tasks.yml."""
  c = load('vilbert', 'base')
  assert c.model.schedule == schedules.VILBERT and c.model.pooled == 1024
  sizes = {key: c.model[key].to_dict() for key in ('width', 'heads', 'mlp')}
  assert sizes == {
    'width': dict(vilbert_model.WIDTH),
    'heads': dict(vilbert_model.HEADS),
    'mlp': dict(vilbert_model.MLP),
  }
  assert (c.data.images, c.optim.lr) == (256, 4e-5)
  assert c.place == 0  # it reads boxes of its own
  assert c.optim.steps == 20 * 443_757 // 256


def test_base_is_clip():
  """Tables 18 to 20 of the paper, ViT-B/32."""
  c = load('clip', 'base')
  text, image = c.model.text, c.model.image
  assert (text.schedule, text.width, text.heads, c.data.length) == ('12*[t<t]', 512, 8, 77)
  assert (image.schedule, image.width, image.heads, image.patch, c.model.out) == ('12*[v<v]', 768, 12, 32, 512)
  assert (c.data.images, c.optim.lr, c.optim.decay, c.optim.b2, c.optim.eps, c.optim.warmup) == (
    32_768, 5e-4, 0.2, 0.98, 1e-6, 2000)  # fmt: skip


def test_base_is_blip():
  """Section 4.1 and the released configs/pretrain.yaml."""
  c = load('blip', 'base')
  assert (c.model.image.patch, c.model.image.width, c.model.text.width, c.model.out) == (16, 768, 768, 256)
  assert (c.contrast.queue, c.contrast.momentum, c.contrast.soft) == (57_600, 0.995, 0.4)
  assert (c.optim.lr, c.optim.decay, c.optim.warmup) == (3e-4, 0.05, 3000)
  assert c.contrast.queue % c.data.images == 0


def test_base_is_dalle():
  """Section 2 and appendices A and B."""
  c = load('dalle', 'base')
  assert (c.model.depth, c.model.heads, c.model.head_size, c.dvae.codes, c.dvae.uniform) == (64, 62, 64, 8192, 6.6)
  assert (c.optim.lr, c.optim.b2, c.optim.decay, c.optim.steps, c.data.images) == (4.5e-4, 0.96, 0.045, 430_000, 1024)


def test_base_is_mult():
  """The released main.py, for mosei_senti, with the model's own defaults; the plateau of its rate is left out."""
  c, model = load('mult', 'base'), MulT(num_answers=1)
  assert {key: getattr(model, key) for key in c.model} == c.model.to_dict()
  assert (c.model.width, c.model.heads, c.model.layers, c.model.embed_dropout) == (30, 5, 5, 0.25)
  assert (c.optim.name, c.optim.lr, c.optim.decay, c.optim.clip, c.optim.schedule) == (
    'adamw', 1e-3, 0.0, 0.8, 'constant')  # fmt: skip
  assert (c.data.images, c.data.padding, c.systems[-1], len(c.systems)) == (24, 'read', 'mult', 5)
  assert c.optim.steps == 40 * 16_322 // 24 and c.optim.steps // c.eval.every == 40


def test_base_is_mbt():
  """The released configs/audioset/balanced_audioset_base.py."""
  c = load('mbt', 'base')
  assert (c.model.layers, c.model.fusion, c.model.bottlenecks, c.model.read) == (12, 8, 4, 'mean')
  assert (c.model.width, c.model.heads, c.model.mlp, c.model.patch, c.model.tubelet) == (768, 12, 3072, 16, 2)
  assert (c.model.clip, c.model.image, c.model.frames, c.model.bins) == (32, 224, 800, 128)
  assert (c.optim.name, c.optim.lr, c.optim.clip, c.data.images) == ('momentum', 0.5, 1.0, 64)
  assert c.teach == 0


WITHOUT = {  # a model file -> why no experiment and config are of its name
  'fused': 'the family that fusion_ablation.py compares',
  'relation_network': 'baselines of fusion_ablation.py',
  'tirg': 'is one system of composed_search.py',
  'answering': 'no model: what stands around one that answers questions',
  'ast': 'begins with a trained ViT, which is not here',
  'vivit': 'begins with a trained ViT, which is not here',
  'videomae': 'pre-trained on videos that are not here',
  'timesformer': 'begins with a trained ViT, which is not here',
  'patchtst': 'reads series alone; series.py has its patches',
  'images': 'no model: a text with several images',
  'whisper': 'its weights are read, it is not trained: experiments/transcribe.py',
  'modalities': 'encoders of what multimodal.py fuses',
  'multimodal': 'the frame of sensors.py and records.py',
  'bert': 'reads text alone; it is the text encoder of others',
  'gpt': 'reads text alone',
  'vit': 'reads images alone; it is the image encoder of others',
  'blip_pretraining': 'how BLIP is trained',
  'blip_nlvr': 'begins with a trained BLIP, and reads pairs of photographs, which are not here',
  'lit': 'a variant of clip.py, `frozen`',
  'imagegpt': 'continues pictures, without any text',
  'dvae': 'half of DALL-E, whose first stage it is: pictures as codes',
  'meter': 'begins with a trained text and image encoder, which are not here',
  'vilt': 'begins with a trained ViT, which is not here',
  'vlbert': 'unverified beyond its embedding; its own tasks need words of the answer in the text',
  'volta': 'five models in one frame, which are compared, not trained one by one',
}


def test_every_model_has_an_experiment_and_a_config_or_a_reason():
  models = {path.stem for path in (cli.ROOT / 'mmjax' / 'models').glob('*.py')} - {'__init__'}
  for name in models - set(WITHOUT):
    assert (cli.ROOT / 'experiments' / f'{name}.py').is_file() and name in FILES
  assert set(WITHOUT) <= models and all(WITHOUT.values())
  assert not set(WITHOUT) & set(FILES)
