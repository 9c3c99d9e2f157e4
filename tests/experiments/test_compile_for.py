"""Steps of the papers as shapes, and what is read out of a compiled program; the compilation is tested under `tpu`."""

import math
import re
import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import compile_for, shaped
from mmjax import cli
from mmjax.errors import UserError

LARGE = 'dalle'  # 12.5 billion parameters and AdamW's moments: 187 GiB


@pytest.mark.parametrize('name', ['lxmert', 'visualbert', 'clip', 'mult'])
def test_a_paper_has_its_sizes(name):
  """Parameters of the published models: LXMERT with VQA's head 213 million, BERT-base's 113, CLIP B/32 151."""
  known = {'lxmert': 213_552_441, 'visualbert': 113_101_113, 'clip': 151_277_313, 'mult': 1_073_731}
  step = shaped.step(name, cli.load_config(f'configs/{name}.py:base'))
  variables = jax.eval_shape(step.recipe.init, jax.eval_shape(lambda: jax.random.key(0)), step.abstract(1))
  assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == known[name]


def test_numbers_have_the_shapes_that_are_told():
  step = shaped.step('series', cli.load_config('configs/series.py:base'))
  batch = step.batch(3, seed=1)
  assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
    name: (a.shape, a.dtype) for name, a in step.abstract(3).items()
  }
  assert batch['seen'].all() and (batch['weight'] == 1).all() and batch['answer'].max() < 4
  text = shaped.words(50, 7)
  drawn = shaped.Shaped(step.recipe, {'text': text}).batch(20)['text']
  assert set(np.unique(drawn)) == set(range(1, 7))


def test_a_paper_that_is_not_known_is_named():
  with pytest.raises(UserError, match=r'configs/lxmort.py: found no shapes of its data, .*did you mean .lxmert'):
    shaped.step('lxmort', cli.load_config('configs/lxmert.py:base'))


def test_collectives_are_counted_with_what_they_give():
  text = """
  %a = f32[4,8]{1,0} all-reduce(f32[4,8]{1,0} %x), replica_groups={}
  %b = (f32[2]{0}, bf16[3]{0}) all-reduce(%y, %z)
  %c = (f32[2,2]{1,0}, f32[4,2]{1,0}) all-gather-start(f32[2,2]{1,0} %x)
  %d = u32[] add(%p, %q)
  """
  assert compile_for.collectives(text) == {'all-reduce': (2, 128 + 8 + 6), 'all-gather': (1, 32)}


@pytest.mark.parametrize('topology', ['v5e', 'v9:2x4', 'v5e:2', 'v5e:axb', ''])
def test_a_topology_that_is_none_is_refused(topology):
  with pytest.raises(UserError, match=r'--topology: found .*, expected KIND:SHAPE such as v5e:2x4, a kind of v5e'):
    compile_for.devices_of(topology)


class Grows:
  """A step whose memory is a line: 10 bytes, and 3 for each example; it does not fit above a limit."""

  parts = 4

  def __init__(self, limit):
    self.limit, self.tried = limit, []

  def near(self, rows):
    return max(rows // self.parts, 1) * self.parts

  def compiled(self, rows):
    self.tried.append(rows)
    size = 10 + 3 * rows
    over = 'too much' if size > self.limit else ''
    return compile_for.Compiled(rows, 0.0, peak=0 if over else size, over=over)


@pytest.mark.parametrize('limit, first, wanted', [(1000, 40, 328), (1000, 4000, 328), (30, 8, 4), (200, 60, 60)])
def test_the_largest_batch_is_found_on_a_line(limit, first, wanted):
  step = Grows(limit)
  found = compile_for.largest(step, [step.compiled(first)], limit)
  assert found.rows == wanted and not found.over and len(step.tried) < 12


def test_where_nothing_fits_there_is_no_largest():
  assert compile_for.largest(Grows(15), [Grows(15).compiled(8)], 15) is None


@pytest.mark.tpu
@pytest.mark.parametrize('name, topology', [
  *((name, topology) for name in shaped.STEPS for topology in ('v5e:2x4', 'v5e:4x4') if name != LARGE),
  (LARGE, 'v5e:4x8'),
])  # fmt: skip
def test_the_step_of_a_paper_compiles_for_a_slice(name, topology):
  """At its sizes, on two examples a chip: of 8 chips, and of a slice of four hosts and more."""
  found, devices = compiled(name, topology)
  assert len(devices) == math.prod(map(int, topology.partition(':')[2].split('x')))
  assert len({device.process_index for device in devices}) >= 4 or topology == 'v5e:2x4'
  assert not found.over and found.peak > 0 and found.collectives['all-reduce'][1] > 0


@pytest.mark.tpu
def test_what_is_too_large_for_a_slice_is_said():
  found, _ = compiled(LARGE, 'v5e:2x4')
  assert re.fullmatch(r'[\d.]+G of 15\.[\d.]+G', found.over) and not found.peak


def compiled(name, topology):
  devices = compile_for.devices_of(topology)
  c = cli.load_config(f'configs/{name}.py:base')
  c.data.images = 2 * len(devices) * c.optim.micro_batches
  return compile_for.Step(c, name, devices, quick=True).compiled(c.data.images), devices


def test_a_batch_divides_the_queue_of_a_contrast():
  near = lambda queue, rows: compile_for.Step.near(
    types.SimpleNamespace(c=ConfigDict({'contrast': {'queue': queue}}), parts=8), rows
  )
  assert [near(57_600, rows) for rows in (2400, 1200, 299, 7)] == [2400, 1200, 288, 8]
  assert near(0, 299) == 296
