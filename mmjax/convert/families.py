"""The one registry: which family a checkpoint is of, by its config.json's class or else by the names of its tensors."""

from collections.abc import Callable
from dataclasses import dataclass

from mmjax.convert import (
  bert,
  blip,
  clip,
  dalle,
  dvae,
  gpt,
  imagegpt,
  lxmert,
  uniter,
  vilbert,
  vilt,
  visualbert,
  vit,
  volta,
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


KINDS = {
  **{name: Kind(bert.plan) for name in bert.CLASSES},
  **{name: Kind(blip.plan) for name in blip.CLASSES},
  'BLIP_Decoder': Kind(blip.plan_authors, ('visual_encoder.cls_token', 'text_decoder.cls.predictions.bias')),
  'BLIP_ITM': Kind(blip.plan_authors, ('visual_encoder.cls_token', 'itm_head.weight')),
  'DALLE': Kind(dalle.plan, ('text_emb.weight', 'image_emb.weight', 'vae.codebook.weight')),
  'DiscreteVAE': Kind(dvae.plan, ('codebook.weight', 'encoder.0.0.weight')),
  'DALL-E dVAE': Kind(dvae.plan_released, ('encoder.blocks.input.w',)),
  'DALL-E dVAE half': Kind(dvae.plan_released, ('blocks.input.w',)),
  **{name: Kind(dvae.plan_released) for name in dvae.CLASSES},
  **{name: Kind(imagegpt.plan) for name in imagegpt.CLASSES},
  **{name: Kind(gpt.plan) for name in gpt.CLASSES},
  **{name: Kind(clip.plan) for name in clip.CLASSES},
  'CLIP': Kind(clip.plan_openai, ('token_embedding.weight', 'visual.conv1.weight')),
  **{name: Kind(vit.plan) for name in vit.CLASSES},
  **{name: Kind(vilt.plan) for name in vilt.CLASSES},
  **{name: Kind(lxmert.plan) for name in lxmert.CLASSES},
  **{name: Kind(visualbert.plan) for name in visualbert.CLASSES},
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
    if kind not in KINDS:
      raise UserError(f'{where}: found class {kind!r}, expected one of {", ".join(KINDS)}{nearest(kind, KINDS)}')
  else:
    found = [name for name, kind in KINDS.items() if kind.known_by(shapes)]
    if len(found) != 1:
      raise UserError(f'{where}: config.json names no class (architectures) and the tensors are of no known family')
    kind = found[0]
  try:
    return KINDS[kind].plan(config, shapes, kind)
  except UserError as error:
    raise UserError(f'{where}: {error}') from error
