"""The script that runs an experiment on a TPU slice, dry: the commands that it would call, and what it refuses."""

import shlex
import subprocess

import pytest

from mmjax.cli import ROOT

WHERE = ['--name=mine', '--zone=us-west4-a']


def call(*argv):
  script = str(ROOT / 'experiments' / 'launch_tpu_vm.sh')
  return subprocess.run([script, *argv], capture_output=True, text=True, check=False)


def commands(*argv):
  """The words of every command that is printed."""
  done = call(*argv, '--dry-run') if '--' not in argv else call(argv[0], '--dry-run', *argv[1:])
  assert done.returncode == 0, done.stderr
  return [shlex.split(line) for line in done.stdout.splitlines()]


def test_all_at_once():
  arguments = ['clip', '--workdir=runs/a b', "--config.systems=('x','y')"]
  found = commands('up', *WHERE, '--bucket=store', '--type=v5litepod-16', '--spot', '--', *arguments)
  tpu = ['gcloud', 'compute', 'tpus', 'tpu-vm']
  assert [words[:5] for words in found] == [
    [*tpu, 'create'], ['git', 'archive', '--format=tar.gz', found[1][3], 'HEAD'], [*tpu, 'scp'], [*tpu, 'ssh'],
    [*tpu, 'ssh'], [*tpu, 'ssh'], [*tpu, 'ssh'], [*tpu, 'ssh'],
  ]  # fmt: skip
  assert {'--accelerator-type=v5litepod-16', '--spot', '--zone=us-west4-a'} <= set(found[0])
  lines = [words[-1].removeprefix('--command=') for words in found[3:]]
  workers = [next(word for word in words if word.startswith('--worker')) for words in found[2:]]
  assert workers == ['--worker=all'] * 5 + ['--worker=0']
  assert 'gcsfuse' in lines[1] and 'requirements-tpu.txt' in lines[2] and lines[4].startswith('tail')
  # what a host's shell makes of it is what was given here
  run = shlex.split(lines[3].split('nohup setsid ')[1].split(' > run.log')[0])
  assert run == ['.venv/bin/python', '-m', 'experiments.clip', '--hosts=auto', *arguments[1:]]


@pytest.mark.parametrize('step, expected', [
  ('create', 'create mine'), ('follow', 'tail -n +1 -F'), ('stop', 'pkill -TERM'), ('delete', 'delete mine'),
])  # fmt: skip
def test_one_step(step, expected):
  (words,) = commands(step, *WHERE)
  assert expected in ' '.join(words)


@pytest.mark.parametrize('argv, said', [
  ((), "found step '', expected one of create"),
  (('start',), "found step 'start'"),
  (('create', '--zone=a'), 'found no --name=NAME'),
  (('create', '--name=a'), 'found no --zone=ZONE'),
  (('create', '--nam=a'), "found '--nam=a', expected --name="),
  (('run', *WHERE), "found no experiment, expected '-- EXPERIMENT"),
  (('run', *WHERE, '--', 'clop'), 'found no experiments/clop.py'),
  (('mount', *WHERE), 'found no --bucket=NAME'),
])  # fmt: skip
def test_a_mistake_is_one_line(argv, said):
  done = call(*argv)
  assert done.returncode == 2 and done.stdout == '' and done.stderr.startswith('error: ') and said in done.stderr
  assert done.stderr.count('\n') == 1


def test_help():
  done = call('--help')
  assert done.returncode == 0 and '--dry-run' in done.stdout and '#' not in done.stdout
