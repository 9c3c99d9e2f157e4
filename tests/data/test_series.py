"""The .ts format, the sets that come in sktime, and what is drawn from them."""

import numpy as np
import pytest

from mmjax.data import series
from mmjax.errors import UserError

HEAD = '#a remark\n@problemName Made up\n@timeStamps false\n@missing true\n@univariate false\n@dimensions 2\n'
CASES = HEAD + '@equalLength false\n@classLabel true up down\n@data\n1,2,3:4,?,6:up\n\n-1.5e1,0:7:down\n'


def written(tmp_path, text):
  file = tmp_path / 'a.ts'
  file.write_text(text)
  return file


def test_a_file_by_hand(tmp_path):
  found = series.read_ts(written(tmp_path, CASES))
  assert (found.name, found.classes, found.label.tolist()) == ('Made up', ('up', 'down'), [0, 1])
  np.testing.assert_array_equal(found.values[0], [[1, 4], [2, np.nan], [3, 6]])
  np.testing.assert_array_equal(found.values[1], [[-15, 7], [0, np.nan]])  # the shorter dimension lacks its end
  assert found.values[0].dtype == np.float32


def test_a_file_of_one_dimension_needs_no_more_of_a_header(tmp_path):
  found = series.read_ts(written(tmp_path, '@univariate true\n@CLASSLABEL true a b\n@data\n1,2:b\n3,4:a\n'))
  assert (found.name, found.label.tolist(), [v.shape for v in found.values]) == ('a', [1, 0], [(2, 1), (2, 1)])


@pytest.mark.parametrize('old, new, line, words', [
  ('@timeStamps false', '@timeStamps true', 9, 'series with time stamps are not read'),
  ('1,2,3:', '(0,1),(1,2):', 10, "found a time stamp, '(0'"),
  ('@missing true', '@missing maybe', 9, 'found @missing maybe, expected true or false'),
  ('@missing true', '@missing false', 10, 'found a missing value'),
  ('@missing true', '@mising true', 4, "did you mean 'missing'?"),
  ('@dimensions 2', '@dimensions 3', 10, 'found 2 dimensions before the class, expected 3'),
  ('@dimensions 2', '@dimensions two', 9, "found @dimensions 'two', expected a number"),
  ('@classLabel true up down', '@classLabel false', 9, 'found @classLabel false, expected true and the classes'),
  ('@classLabel true up down\n', '', 8, 'found @classLabel nowhere'),
  (':down', ':dwon', 12, "found class 'dwon', expected one of ('up', 'down'); did you mean 'down'?"),
  ('1,2,3:', '1,x,3:', 10, "found 'x', expected a number or ?"),
  ('1,2,3:', '1,,3:', 10, "found '', expected a number or ?"),
  ('1,2,3:', '1,nan,3:', 10, "found 'nan', expected a number or ?"),
  ('1,2,3:', '1,inf,3:', 10, "found 'inf', expected a number or ?"),
  ('@data', '', 10, 'found a case before @data'),
  ('@equalLength false', '@equalLength true', None, 'found cases of different length'),
  ('@equalLength false', '@equalLength true\n@seriesLength 4', 11, 'found 3 steps, expected 4'),
  (CASES[CASES.index('1,2,3:') :], '', None, 'found no case'),
])  # fmt: skip
def test_what_is_not_of_the_format_is_one_line_that_names_its_place(tmp_path, old, new, line, words):
  assert old in CASES
  file = written(tmp_path, CASES.replace(old, new))
  with pytest.raises(UserError) as error:
    series.read_ts(file)
  said = str(error.value)
  assert said.startswith(f'{file}:{line}: ' if line else f'{file}: ') and words in said and '\n' not in said


def test_a_file_that_is_none_is_one_line(tmp_path):
  (tmp_path / 'b.ts').write_bytes(b'\xff\xfe\x00')
  for name in ('a.ts', 'b.ts'):
    with pytest.raises(UserError, match=f'{name}: cannot be read'):
      series.read_ts(tmp_path / name)


@pytest.mark.parametrize('name', series.SETS)
def test_the_sets_are_those_that_were_published(name):
  found = series.load(name)  # which compares their sizes with SETS
  steps = [len(case) for cases in found.values() for case in cases.values]
  wanted = {'BasicMotions': (100, 100), 'JapaneseVowels': (7, 29), 'GunPoint': (150, 150), 'ItalyPowerDemand': (24, 24)}
  assert (min(steps), max(steps)) == wanted[name]
  assert not any(np.isnan(case).any() for cases in found.values() for case in cases.values)


def test_first_values_of_a_set():
  train = series.load('BasicMotions')['train']
  assert train.values[0][:3, 0].tolist() == np.float32([0.079106, 0.079106, -0.903497]).tolist()
  assert np.bincount(train.label).tolist() == [10] * 4 and train.classes[0] == 'Standing'


def test_where_the_package_is_missing_or_another_it_is_said(tmp_path):
  with pytest.raises(UserError, match='pip install --no-deps sktime'):
    series.load('GunPoint', [str(tmp_path)])
  with pytest.raises(UserError, match="did you mean 'GunPoint'"):
    series.load('GunPont')
  folder = tmp_path / series.FOLDER / 'GunPoint'
  folder.mkdir(parents=True)
  for split in ('TRAIN', 'TEST'):
    (folder / f'GunPoint_{split}.ts').write_text(CASES)
  with pytest.raises(UserError, match=r'found \(2, 2, 2, 2\) channels, classes, training and test cases, expected'):
    series.load('GunPoint', [str(tmp_path)])


def test_of_each_class_a_share_is_held_out():
  label = np.repeat([0, 1, 2], [10, 20, 2])
  kept, out = series.held_out(label, 0.2, 3)
  assert np.bincount(label[out]).tolist() == [2, 4, 1] and np.bincount(label[kept]).tolist() == [8, 16, 1]
  assert sorted([*kept, *out]) == list(range(32))
  assert series.held_out(label, 0.2, 3)[1].tolist() == out.tolist() != series.held_out(label, 0.2, 4)[1].tolist()
  with pytest.raises(UserError, match='found 1 case, expected at least 2'):
    series.held_out(np.array([0, 0, 1]), 0.2, 3)
  with pytest.raises(UserError, match=r'found 1\.0, expected more than 0'):
    series.held_out(label, 1.0, 3)


def test_normalised_and_padded_by_hand():
  values = [np.array([[1, 5], [3, np.nan]], np.float32), np.array([[5, 5]], np.float32)]
  mean, deviation = series.statistics(values)
  assert mean.tolist() == [3, 5] and deviation.tolist() == pytest.approx([(8 / 3) ** 0.5, 1])  # 5 never changes
  found = series.padded(values, 3, mean, deviation)
  assert found['seen'].tolist() == [
    [[True, True], [True, False], [False, False]],
    [[True, True], [False, False], [False, False]],
  ]
  scale = 1 / deviation[0]
  wanted = [[[-2 * scale, 0], [0, 0], [0, 0]], [[2 * scale, 0], [0, 0], [0, 0]]]
  np.testing.assert_allclose(found['series'], wanted, atol=1e-6)
  with pytest.raises(UserError, match='found one of 2 steps, expected at most 1'):
    series.padded(values, 1)
  with pytest.raises(UserError, match='channel 1: found no value at all'):
    series.statistics([np.array([[1, np.nan]], np.float32)])
