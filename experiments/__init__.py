"""The experiments, and the flags that some share: those that ask questions about images, and those that do not."""

FLAGS = {
  'image': ('', 'mode predict: an image file'),
  'question': ('', 'mode predict: what to ask about it'),
  'checkpoint': ('latest', 'modes eval and predict: latest, or best on the validation split'),
  'pretrained': ('', 'a folder with published weights, or ours, to begin with'),
}

MODES = ('train', 'eval')  # of an experiment that predicts nothing by itself
EVAL_FLAGS = {'checkpoint': ('latest', 'mode eval: latest, or best on the validation split')}
