"""The experiments. Those that ask questions about images share these flags."""

FLAGS = {
  'image': ('', 'mode predict: an image file'),
  'question': ('', 'mode predict: what to ask about it'),
  'checkpoint': ('latest', 'modes eval and predict: latest, or best on the validation split'),
  'pretrained': ('', 'a folder with published weights, or ours, to begin with'),
}
