"""Configurations of experiments/speech_retrieval.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'prompts': 'spoken prompts of a telephone exchange and their texts, from a Debian package (default)',
  'tiny': 'some steps of the default in under a minute',
  'base': "towers of the size of CLIP's for text, for a corpus of many hours, to read and to copy",
}


def get_config(variant: str = 'prompts') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'prompts'
  c.data.dir = ''  # where the prompts are; '' is where Debian puts them
  c.data.broken = 'refuse'  # or 'skip': what is done about a clip that cannot be read
  c.data.images = 64  # pairs a step, each a rival of every other
  c.data.length = 70  # letters of a text, with its start and end
  c.data.seconds = 4.0  # of a clip; one that is longer, or has a longer text, is left out
  c.data.bins = 40  # of the log-mel spectrogram

  c.model = ConfigDict()
  c.model.out = 128  # of the space that both share
  c.model.width = 128
  c.model.heads = 4
  c.model.mlp = 256
  c.model.dropout = 0.1
  c.model.channels = (16, 32)  # of the convolutions over the spectrogram, each of stride 2
  c.model.text_schedule = '2*[t<t]'
  c.model.sound_schedule = '3*[a<a]'

  c.letters = 1.0  # weight of the loss of the letters that are heard (CTC); 0: contrast alone

  c.augment = ConfigDict()  # 380 clips are few: none is heard twice the same way
  c.augment.pace = 0.15  # how much slower or faster
  c.augment.gain = 0.5  # how much louder or softer, in deviations of the spectrogram
  c.augment.join = 0.5  # of the pairs, each with another one behind it
  c.augment.hide = 2  # stretches of time, and of bins, that become silent (SpecAugment)
  c.augment.hide_time = 0.1  # of a clip, the longest such stretch
  c.augment.hide_bins = 8  # the widest

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 900
  c.optim.warmup = 100
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.1
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-6
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 300  # steps between searches in the validation split, each with a checkpoint
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'tiny':
    c.data.seconds, c.data.length = 2.0, 40
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  elif variant == 'base':  # ours: no paper has this task on these data
    c.data.seconds, c.data.length, c.data.bins, c.data.images = 30.0, 500, 80, 512
    c.model.out = c.model.width = 512
    c.model.heads, c.model.mlp = 8, 2048
    c.model.channels = (64, 128)
    c.model.text_schedule, c.model.sound_schedule = '12*[t<t]', '12*[a<a]'
    c.optim.lr, c.optim.steps, c.optim.warmup, c.eval.every = 5e-4, 100_000, 5000, 5000
  return c
