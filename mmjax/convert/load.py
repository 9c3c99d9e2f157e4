"""A checkpoint's folder -> the model here and its variables, and back.

Four kinds of folder are read by the same `load`: a published one (config.json beside safetensors), the same with
pickled tensors where that is allowed, CTranslate2's (config.json beside its model.bin), and ours: config.json that says
so, and model.safetensors with '/'-joined paths.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from mmjax.convert import ctranslate2, families, models
from mmjax.convert.names import UNUSED, flatten, from_theirs, one_by_one, refuse, shapes_there
from mmjax.convert.pickles import SUFFIXES, open_pickle
from mmjax.convert.plan import Config, Plan
from mmjax.convert.tensors import DTYPES, FILE, INDEX, NAMES, open_tensors, read_json, write_tensors
from mmjax.errors import UserError, nearest
from mmjax.workdir import making, write_atomic

FORMAT = 'mmjax 1'
BESIDE = ('vocab.txt', 'tokenizer.json', 'preprocessor_config.json')  # what a published folder says of words and pixels
Tensors = Mapping[str, np.ndarray]
Seen = Callable[[int], None]  # told of the bytes of each tensor that was dealt with


def load(path: str | Path, allow_pickle: bool = False, seen: Seen = lambda size: None) -> tuple[nn.Module, dict]:
  """A folder -> (model, variables {'params': ...}); nothing left over, nothing missing.

  allow_pickle: whether a folder that holds its tensors in a pickle may be read (by an unpickler that builds tensors
  only). Raises UserError for a folder that holds no checkpoint, an unknown family, and tensors that do not fit.
  """
  folder = Path(path)
  if folder.is_dir() and (folder / 'config.json').is_file():
    config = read_json(folder / 'config.json')
    if config.get('format') == FORMAT:
      return _load_ours(folder, config, seen)
  plan, tensors = read(folder, allow_pickle)
  return plan.model, converted(plan, tensors, seen)


def read(path: str | Path, allow_pickle: bool = False) -> tuple[Plan, dict[str, np.ndarray]]:
  """A published folder (or a file in it), understood but not converted, and its tensors.

  A file that is named itself may stand without a config.json; its tensors then say what it is.
  """
  path = Path(path)
  folder = path.parent if path.is_file() else path
  if not folder.is_dir():
    raise UserError(f'{path}: no such file or folder')
  engine = ctranslate2.found(path)
  tensors, said = ctranslate2.read(engine) if engine else (tensors_of(path, allow_pickle), {})
  if not tensors:
    raise UserError(f'{path}: holds no tensors')
  alone = path.is_file() and not (folder / 'config.json').is_file()
  config: Config = ({} if alone else read_json(folder / 'config.json')) | said
  if config.get('format') == FORMAT:
    raise UserError(f'{folder}: is in the format of this project already')
  return families.plan(config, {name: tensor.shape for name, tensor in tensors.items()}, str(path)), tensors


def tensors_of(path: Path, allow_pickle: bool = False) -> dict[str, np.ndarray]:
  """name -> array of a folder or a file, without the prefix that torch's DataParallel puts before every name."""
  pickled = sorted(f for f in path.iterdir() if f.suffix in SUFFIXES) if path.is_dir() else [path]
  if path.is_dir() and any((path / name).is_file() for name in (FILE, INDEX)):
    found: Tensors = open_tensors(path)
  elif path.is_file() and path.suffix == '.safetensors':
    found = open_tensors(path.parent, path.name)
  elif not pickled or pickled[0].suffix not in SUFFIXES:
    raise UserError(f'{path}: holds no checkpoint, expected {FILE} or {INDEX}')
  elif not allow_pickle:
    raise UserError(
      f'{pickled[0]}: a pickle, which can run any program of whoever wrote it when it is loaded; expected safetensors, '
      'or --allow-pickle, which builds tensors from it and nothing else'
    )
  elif len(pickled) > 1:
    raise UserError(f'{path}: found {", ".join(f.name for f in pickled)}, expected one; name the file')
  else:
    found = open_pickle(pickled[0])
  prefix = 'module.' if found and all(name.startswith('module.') for name in found) else ''
  return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def converted(plan: Plan, tensors: Tensors, seen: Seen = lambda size: None) -> dict:
  """The plan's variables from a published checkpoint's tensors; seen is told of the bytes of each.

  Raises UserError for tensors that do not fit (see `from_theirs`), and where two names of one tensor hold two.
  """
  return from_theirs(plan.rows, once(plan, tensors), plan.shapes, plan.buffers, seen)


def once(plan: Plan, tensors: Tensors) -> dict[str, np.ndarray]:
  """The tensors without second names. Raises UserError where two names of one tensor hold two."""
  first = dict(tensors)
  for second, name in plan.tied.items():
    if second in first:
      tensor = first.pop(second)
      if not np.array_equal(first.setdefault(name, tensor), tensor):
        raise UserError(f'{second} differs from {name}, expected one tensor under two names')
  return first


def save(model: nn.Module, variables: Mapping, folder: str | Path, like: str | Path | None = None) -> None:
  """Writes (model, variables) in our own format. The folder must be new or empty; it appears whole or not at all.

  like: the folder that `import_` made of a published checkpoint of this very model; what is written can then be
  exported under the same names, as after fine-tuning. Raises UserError for one of another model.
  """
  source = None
  if like:
    config = read_json(Path(like) / 'config.json')
    source = config.get('source')
    if not source or models.built(config, str(like)) != model:
      raise UserError(f'{like}: expected a folder that "import" has made of this {type(model).__name__}')
  with making(folder) as made:
    _write_ours(made, model, variables, source)


def import_(path: str | Path, folder: str | Path, allow_pickle: bool = False, seen: Seen = lambda size: None) -> Plan:
  """A published checkpoint -> a folder in our format that can be exported back. Returns what was understood of it."""
  plan, tensors = read(path, allow_pickle)
  variables = converted(plan, tensors, seen)
  source = {
    'config': dict(plan.config),
    'tensors': {name: [list(tensor.shape), NAMES[tensor.dtype]] for name, tensor in tensors.items()},
  }
  with making(folder) as made:
    _write_ours(made, plan.model, variables, source)
    for beside in (Path(path) / name for name in BESIDE):
      if beside.is_file():
        try:
          write_atomic(made / beside.name, beside.read_text())
        except UnicodeDecodeError as error:
          raise UserError(f'{beside}: {error}, expected UTF-8') from error
  return plan


def export(path: str | Path, folder: str | Path, seen: Seen = lambda size: None) -> int:
  """A folder in our format -> the published checkpoint that it came from: names, dtypes and bytes. Returns how many."""
  ours = Path(path)
  config = read_json(ours / 'config.json')
  if config.get('format') != FORMAT or not config.get('source'):
    raise UserError(f'{ours}: expected a folder that "import" has made, which knows the names to go back to')
  source = config['source']
  try:
    plan = families.plan(source['config'], {name: tuple(s) for name, (s, _) in source['tensors'].items()}, str(ours))
    dtypes = {name: np.dtype(DTYPES[dtype]) for name, (_, dtype) in source['tensors'].items()}
  except UserError:
    raise
  except (TypeError, ValueError, KeyError, AttributeError) as error:
    raise UserError(f'{ours}/config.json: "source" is damaged ({type(error).__name__}: {error})') from error
  model, variables = load(ours, seen=seen)
  if model != plan.model:
    raise UserError(f'{ours}: its model is not that of its source, expected them equal')
  first = {name: plan.tied.get(name, name) for name in source['tensors']}
  shapes = shapes_there(plan.rows, variables) | {name: a.shape for name, a in plan.buffers.items()}
  unused = {row.theirs[0] for row in plan.rows if row.collection == UNUSED}
  for row in plan.rows:
    if row.collection == UNUSED:
      shapes[row.theirs[0]] = tuple(flatten(variables)[row.path].shape)
  names = list(source['tensors'])
  wrong = sorted(set(shapes_there(plan.rows, variables)) ^ (set(first.values()) - set(plan.buffers)))
  wrong += [name for name in names if name not in plan.buffers and not jnp.issubdtype(dtypes[name], jnp.floating)]
  wrong = [name for name in wrong if name not in unused]
  if wrong:
    raise UserError(f'{ours}/config.json: "source" is damaged: {", ".join(wrong)}')
  # a tensor that has only its second name in the file is known here by its first
  specs = {name: (dtypes[name], shapes[first[name]]) for name in names}

  def parts() -> Iterable[np.ndarray]:
    for name in names:
      if name in plan.buffers:
        value = plan.buffers[name]
      else:
        value = next(iter(one_by_one(plan.rows, variables, [first[name]])))
      yield np.ascontiguousarray(value).astype(specs[name][0], copy=False).reshape(specs[name][1])
      seen(value.nbytes)

  with making(folder) as made:
    write_atomic(made / 'config.json', json.dumps(source['config'], indent=2) + '\n')
    write_tensors(made / FILE, specs, parts())
  return len(names)


def _write_ours(folder: Path, model: nn.Module, variables: Mapping, source: Mapping | None) -> None:
  flat = {path: np.asarray(jax.device_get(value)) for path, value in flatten(variables).items()}
  config = {'format': FORMAT, **models.described(model)} | ({'source': source} if source else {})
  write_atomic(folder / 'config.json', json.dumps(config, indent=2) + '\n')
  write_tensors(folder / FILE, {path: (a.dtype, a.shape) for path, a in flat.items()}, flat.values())


def _load_ours(folder: Path, config: Mapping[str, Any], seen: Seen) -> tuple[nn.Module, dict]:
  model = models.built(config, str(folder))
  if not any((folder / name).is_file() for name in (FILE, INDEX)):
    raise UserError(f'{folder}: holds no checkpoint, expected {FILE} beside config.json')
  tensors = open_tensors(folder)
  flat = {path: tensor for path, tensor in tensors.items() if not path.startswith(f'{UNUSED}/')}
  expected = flatten(models.shapes_of(model, {path: tensor.shape for path, tensor in flat.items()}, str(folder)))
  faults = [f'{path}: missing' for path in sorted(set(expected) - set(flat))]
  faults += [f'{path}: left over{nearest(path, expected)}' for path in sorted(set(flat) - set(expected))]
  for path in sorted(set(flat) & set(expected)):
    if flat[path].shape != expected[path].shape:
      faults.append(f'{path}: found shape {flat[path].shape}, expected {expected[path].shape}')
    if not jnp.issubdtype(flat[path].dtype, jnp.floating):
      faults.append(f'{path}: found dtype {flat[path].dtype}, expected a float')
  refuse(faults)
  variables = {}
  for path, tensor in tensors.items():
    dtype = expected[path].dtype if path in expected else tensor.dtype
    variables[path] = np.array(tensor, dtype)
    if path in expected and not np.isfinite(variables[path]).all():
      faults.append(f'{path}: holds NaN or infinity')
    seen(tensor.nbytes)
  refuse(faults)
  return model, traverse_util.unflatten_dict(variables, sep='/')
