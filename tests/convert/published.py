"""The tensor lists of published full-size checkpoints, and the configurations that stand beside them.

  python -m tests.convert.published    what of each list is mapped, ignored, missing, left over

published.json: checkpoint -> lines 'name shape', a name with '{n}' followed by the numbers that stand for it ('0-11' or
'0,2,4'), and a dtype where it is not float32. Lists of names and shapes are facts of the published files.
"""

import json
from pathlib import Path

import numpy as np

LISTS = json.loads((Path(__file__).parent / 'published.json').read_text())

BERT = {'vocab_size': 30522, 'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 3072,
        'max_position_embeddings': 512, 'type_vocab_size': 2, 'num_hidden_layers': 12}  # fmt: skip
LXMERT = BERT | {'l_layers': 9, 'r_layers': 5, 'x_layers': 5, 'visual_feat_dim': 2048}
VISUALBERT = BERT | {'visual_embedding_dim': 2048, 'pad_token_id': 1}
VOLTA = BERT | {
  'num_locs': 5, 'v_feature_size': 2048, 'v_hidden_size': 768, 'v_num_attention_heads': 12,
  'v_intermediate_size': 3072, 'pooler_size': 1024, 'fusion_method': 'mul', 'pad_token_id': 0, 'image_head_ln': True,
}  # fmt: skip


def sublayers(tt=(), tv=(), vt=(), vv=(), t_ff=(), v_ff=(), shared=()):
  """Sub-layers as VOLTA's configs list them."""
  attention = {
    f'{edge}_attn_sublayers': list(n) for edge, n in zip(('tt', 'tv', 'vt', 'vv'), (tt, tv, vt, vv), strict=True)
  }
  return attention | {'t_ff_sublayers': list(t_ff), 'v_ff_sublayers': list(v_ff), 'shared_sublayers': list(shared)}


BLIP = {'text_config': {'num_attention_heads': 12}, 'vision_config': {}}
EVEN, ODD = range(0, 24, 2), range(1, 24, 2)
SINGLE = sublayers(EVEN, EVEN, EVEN, EVEN, ODD, ODD, range(24))
CROSS, SELF, FFN = range(18, 33, 3), range(19, 33, 3), range(20, 33, 3)
MEET = range(12, 36, 4)
DUAL = sublayers(
  [*range(0, 12, 2), *range(14, 36, 4)], MEET, MEET, range(14, 36, 4), range(1, 36, 2), range(13, 36, 2)
)  # fmt: skip
WIDE = {str(n): 1024 for n in MEET}
CONFIGS = {
  'bert-base-uncased': BERT | {'architectures': ['BertForPreTraining']},
  'vit-base-patch16-224': BERT | {'architectures': ['ViTForImageClassification'], 'image_size': 224, 'patch_size': 16},
  'lxmert-base-uncased': LXMERT | {'architectures': ['LxmertForPreTraining'], 'num_qa_labels': 9500,
                                   'num_object_labels': 1600, 'num_attr_labels': 400},
  'airsplay_lxmert_pretraining': LXMERT | {'num_answers': 9500, 'obj_id_num': 1600, 'attr_id_num': 400},
  'visualbert-vqa': VISUALBERT | {'architectures': ['VisualBertForQuestionAnswering']},
  'visualbert-vqa-coco-pre': VISUALBERT | {'architectures': ['VisualBertForPreTraining']},
  'uclanlp_visualbert_pretraining': VISUALBERT | {'training_head_type': 'pretraining'},
  'clip-vit-base-patch32': {'architectures': ['CLIPModel'], 'text_config': {}, 'vision_config': {}},
  'openai_clip_vit_b32': {},
  'openai_clip_rn50': {},
  'uniter-base_pretraining': BERT | {'vocab_size': 28996},
  'vilbert_bert_base_6layer_6conect': BERT | {
    'v_feature_size': 2048, 'v_target_size': 1601, 'v_hidden_size': 1024, 'v_num_hidden_layers': 6,
    'v_num_attention_heads': 8, 'v_intermediate_size': 1024, 'bi_hidden_size': 1024, 'bi_num_attention_heads': 8,
    'v_biattention_id': [0, 1, 2, 3, 4, 5], 't_biattention_id': [6, 7, 8, 9, 10, 11], 'fusion_method': 'mul'},
  'volta_ctrl_lxmert': VOLTA | {'image_embeddings': 'lxmert'} | sublayers(
    [*range(0, 18, 2), *SELF], CROSS, CROSS, [*range(0, 10, 2), *SELF], [*range(1, 18, 2), *FFN],
    [*range(1, 10, 2), *FFN], CROSS),
  'volta_ctrl_uniter_base': VOLTA | {'image_embeddings': 'uniter'} | SINGLE,
  'volta_ctrl_vilbert_base': VOLTA | {'image_embeddings': 'vilbert'} | DUAL,
  'volta_ctrl_visualbert_base': VOLTA | {'image_embeddings': 'visualbert'} | SINGLE,
  'volta_ctrl_vl-bert_base': VOLTA | {'image_embeddings': 'vl-bert', 'num_locs': 4, 'type_vocab_size': 3,
                                      'v_coordinate_embeddings_dim': 256, 'image_head_ln': False} | SINGLE,
  'volta_vilbert_base': VOLTA | {
    'image_embeddings': 'vilbert', 'v_hidden_size': 1024, 'v_num_attention_heads': 8, 'v_intermediate_size': 1024,
    'sublayer2attn_hidden_size': WIDE, 'sublayer2num_attention_heads': {n: 8 for n in WIDE}} | DUAL,
  'blip-image-captioning-base': {'architectures': ['BlipForConditionalGeneration']} | BLIP,
  'blip-itm-base-coco': {'architectures': ['BlipForImageTextRetrieval']} | BLIP,
  'blip-vqa-base': {'architectures': ['BlipForQuestionAnswering']} | BLIP,
  'salesforce_blip_caption_base': {},
  'salesforce_blip_itm_base': {},
  'ast-finetuned-audioset-10-10-0.4593': BERT | {'architectures': ['ASTForAudioClassification']},
  'videomae-base': BERT | {'architectures': ['VideoMAEForPreTraining']},
  'mult_mosei_default_d30': {'orig_d_l': 300, 'orig_d_a': 74, 'orig_d_v': 35},
  'openai_dalle_encoder': {},
  'openai_dalle_decoder': {},
}  # fmt: skip


def tensors(name: str) -> dict[str, np.ndarray]:
  """The list of a checkpoint as arrays of zeros that take no memory."""
  found = {}
  for line in LISTS[name]:
    tensor, shape, *rest = line.split()
    numbers = ['']
    if '{n}' in tensor:
      first, _, last = rest.pop(0).partition('-')
      numbers = range(int(first), int(last) + 1) if last else first.split(',')
    zero = np.zeros((), rest[0] if rest else 'float32')
    size = () if shape == '-' else tuple(map(int, shape.split('x')))
    found |= {tensor.replace('{n}', str(n)): np.broadcast_to(zero, size) for n in numbers}
  return found


def main() -> None:
  from mmjax.convert import families
  from mmjax.convert.names import misfits

  print(f'{"checkpoint":34} tensors  mapped  second names  ignored  missing or left over')
  for name in LISTS:
    found = tensors(name)
    plan = families.plan(CONFIGS[name], {tensor: a.shape for tensor, a in found.items()}, name)
    once = {tensor: a for tensor, a in found.items() if tensor not in plan.tied}
    ignored = sorted(set(plan.buffers) & set(once))
    wrong = misfits(plan.rows, once, plan.shapes, plan.buffers)
    counts = f'{len(found):7}  {len(once) - len(ignored):6}  {len(found) - len(once):12}  {len(ignored):7}'
    print(f'{name:34} {counts}  {len(wrong):20}  {", ".join(ignored)}'.rstrip())


if __name__ == '__main__':
  main()
