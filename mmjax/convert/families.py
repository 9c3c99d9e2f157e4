"""The one registry: which family a checkpoint is of, by its config.json's class or else by the names of its tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmjax.convert import (
  ast,
  bert,
  blip,
  clip,
  dalle,
  dvae,
  efficientnet,
  gpt,
  imagegpt,
  lxmert,
  mult,
  patchtst,
  uniter,
  video,
  vilbert,
  vilt,
  visualbert,
  vit,
  volta,
  whisper,
)
from mmjax.convert.plan import Config, Plan, Shapes
from mmjax.errors import UserError, nearest


@dataclass(frozen=True)
class Kind:
  """A class of published code. marks: tensors that tell a checkpoint without a class ('!': that is not there)."""

  plan: Callable[[Config, Shapes, str], Plan]
  marks: tuple[str, ...] = ()

  def known_by(self, shapes: Shapes) -> bool:
    return bool(self.marks) and all(
      (mark[1:] not in shapes) if mark[0] == '!' else mark in shapes for mark in self.marks
    )


WORDS, QUERY = 'embeddings.word_embeddings.weight', 'encoder.layer.0.attention.self.query.weight'
CROSS, SEEN = 'encoder.x_layers.0.visual_attention.att.query.weight', 'embeddings.visual_projection.weight'
PIXELS = 'vision_model.embeddings.class_embedding'
MARKS = {  # of HuggingFace's classes; those that have none are told by config.json alone: their tensors are alike
  'BertModel': (WORDS, QUERY, f'!{SEEN}', f'!{CROSS}'),
  'BertForPreTraining': (
    f'bert.{WORDS}',
    'cls.seq_relationship.weight',
    'bert.pooler.dense.weight',
    '!bert.encoder.c_layer.0.biattention.query1.weight',
    '!bert.encoder.visn_fc.visn_fc.weight',
    '!bert.embeddings.token_type_embeddings_visual.weight',
  ),
  'GPT2Model': ('wte.weight', 'h.0.ln_1.bias'),
  'GPT2LMHeadModel': ('transformer.wte.weight', 'transformer.h.0.ln_1.bias'),
  'ImageGPTForCausalImageModeling': ('transformer.wte.weight', 'lm_head.weight', '!transformer.h.0.ln_1.bias'),
  'ViTModel': (
    'embeddings.cls_token',
    'encoder.layer.0.attention.attention.query.weight',
    '!embeddings.distillation_token',
  ),
  'ASTModel': ('embeddings.distillation_token',),
  'ASTForAudioClassification': ('audio_spectrogram_transformer.embeddings.distillation_token',),
  'VideoMAEForPreTraining': ('encoder_to_decoder.weight', 'mask_token'),
  'TimesformerModel': ('embeddings.time_embeddings',),
  'WhisperModel': ('encoder.conv1.weight', 'decoder.embed_positions.weight'),
  'WhisperForConditionalGeneration': ('model.encoder.conv1.weight', 'model.decoder.embed_positions.weight'),
  'ViTForImageClassification': ('vit.embeddings.cls_token', 'classifier.weight'),
  'ViltModel': ('embeddings.text_embeddings.word_embeddings.weight',),
  'ViltForMaskedLM': ('vilt.embeddings.cls_token', 'mlm_score.bias'),
  'ViltForImageAndTextRetrieval': ('vilt.embeddings.cls_token', 'rank_output.weight'),
  'LxmertModel': (CROSS,),
  'LxmertForQuestionAnswering': (f'lxmert.{CROSS}', '!cls.predictions.bias'),
  'LxmertForPreTraining': (f'lxmert.{CROSS}', 'cls.predictions.bias'),
  'VisualBertModel': (SEEN,),
  'VisualBertForPreTraining': (f'visual_bert.{SEEN}', 'cls.seq_relationship.weight'),
  'VisualBertForRegionToPhraseAlignment': (f'visual_bert.{SEEN}', 'attention.query.weight'),
  'CLIPModel': ('logit_scale', PIXELS, 'text_model.embeddings.token_embedding.weight'),
  'BlipForConditionalGeneration': (PIXELS, 'text_decoder.cls.predictions.bias', '!text_encoder.' + WORDS),
  'BlipForQuestionAnswering': (PIXELS, 'text_decoder.cls.predictions.bias', 'text_encoder.' + WORDS),
  'BlipForImageTextRetrieval': (PIXELS, 'itm_head.weight'),
  'FlavaImageCodebook': ('blocks.input.weight',),
}


def _classes(family: Any) -> dict[str, Kind]:
  """The classes of HuggingFace's that a family's file reads."""
  return {name: Kind(family.plan, MARKS.get(name, ())) for name in family.CLASSES}


KINDS = {
  **_classes(bert),
  **_classes(gpt),
  **_classes(imagegpt),
  **_classes(vit),
  **_classes(vilt),
  **_classes(lxmert),
  **_classes(visualbert),
  **_classes(clip),
  **_classes(ast),
  **_classes(patchtst),
  **_classes(whisper),
  whisper.ENGINE: Kind(whisper.plan_engine),
  **{name: Kind(video.plan_videomae, MARKS.get(name, ())) for name in video.VIDEO_MAE},
  **{name: Kind(video.plan_vivit, MARKS.get(name, ())) for name in video.VIVIT},
  **{name: Kind(video.plan_timesformer, MARKS.get(name, ())) for name in video.TIMESFORMER},
  **_classes(blip),
  **{name: Kind(dvae.plan_released, MARKS[name]) for name in dvae.CLASSES},
  # the authors' code
  'BLIP_Decoder': Kind(blip.plan_authors, ('visual_encoder.cls_token', 'text_decoder.cls.predictions.bias')),
  'BLIP_ITM': Kind(blip.plan_authors, ('visual_encoder.cls_token', 'itm_head.weight')),
  'BLIP_NLVR': Kind(blip.plan_nlvr, ('visual_encoder.cls_token', 'cls_head.2.weight')),
  efficientnet.CLASS: Kind(efficientnet.plan, ('_conv_stem.weight', '_blocks.0._depthwise_conv.weight')),
  mult.CLASS: Kind(mult.plan, ('trans_l_mem.layers.0.fc1.weight', 'proj1.weight')),
  'DALLE': Kind(dalle.plan, ('text_emb.weight', 'image_emb.weight', 'vae.codebook.weight')),
  'DiscreteVAE': Kind(dvae.plan, ('codebook.weight', 'encoder.0.0.weight')),
  'DALL-E dVAE': Kind(dvae.plan_released, ('encoder.blocks.input.w',)),
  'DALL-E dVAE half': Kind(dvae.plan_released, ('blocks.input.w',)),
  'CLIP': Kind(clip.plan_openai, ('token_embedding.weight', 'visual.conv1.weight')),
  'BertForMultiModalPreTraining': Kind(vilbert.plan, ('bert.encoder.c_layer.0.biattention.query1.weight',)),
  **{
    name: Kind(uniter.plan, ('uniter.img_embeddings.img_linear.weight', head)) for name, head in uniter.CLASSES.items()
  },
  'BertForVLPreTraining': Kind(
    volta.plan,
    (
      'cls.bi_seq_relationship.weight',
      'bert.t_pooler.dense.weight',
      '!bert.encoder.c_layer.0.biattention.query1.weight',
    ),
  ),
  'TrainVisualBERTObjective': Kind(
    visualbert.plan, ('bert.embeddings.token_type_embeddings_visual.weight', '!bert.t_pooler.dense.weight')
  ),
  **{name: Kind(lxmert.plan) for name in lxmert.TASKS},
  'VQAModel': Kind(lxmert.plan, ('lxrt_encoder.model.bert.encoder.visn_fc.visn_fc.weight',)),  # stands for all TASKS
  'LXRTPretraining': Kind(lxmert.plan, ('bert.encoder.visn_fc.visn_fc.weight', 'cls.seq_relationship.weight')),
}


def plan(config: Config, shapes: Shapes, where: str) -> Plan:
  """Raises UserError that begins with `where` for a class or for tensors of no family."""
  classes = config.get('architectures')
  if classes is not None:
    kind = classes[0] if isinstance(classes, list) and classes else classes
    if not isinstance(kind, str) or kind not in KINDS:
      raise UserError(f'{where}: found class {kind!r}, expected one of {", ".join(KINDS)}{nearest(kind, KINDS)}')
  else:
    found = [name for name, kind in KINDS.items() if kind.known_by(shapes)]
    if len(found) != 1:
      raise UserError(f'{where}: config.json names no class (architectures) and the tensors are of no known family')
    kind = found[0]
  try:
    made = KINDS[kind].plan(config, shapes, kind)
    _ = made.shapes  # sizes that do not fit one another show here
    return made
  except UserError as error:
    raise UserError(f'{where}: {error}') from error
  except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
    said = str(error).splitlines()[0] if str(error) else ''
    raise UserError(
      f'{where}: config.json and the tensors describe no {kind} ({type(error).__name__}: {said})'
    ) from error
