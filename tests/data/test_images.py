"""Image files of every kind that users have, and those that are none."""

import numpy as np
import pytest
from PIL import Image

from mmjax.data import images
from mmjax.errors import UserError

RED = np.array([255, 0, 0])


def saved(folder, name, picture, **how):
  picture.save(folder / name, **how)
  return folder / name


def test_a_plain_picture_is_as_it_is(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
  np.testing.assert_array_equal(images.read(saved(tmp_path, 'a.png', Image.fromarray(pixels))), pixels)


def test_one_pixel_is_a_picture(tmp_path):
  found = images.read(saved(tmp_path, 'a.png', Image.new('RGB', (1, 1), 'red')))
  assert found.shape == (1, 1, 3)
  assert (images.resized(found, 8) == RED).all() and images.resized(found, 8).shape == (8, 8, 3)


def test_what_can_be_seen_through_lies_on_white(tmp_path):
  half = Image.new('RGBA', (2, 1), (255, 0, 0, 255))
  half.putpixel((1, 0), (0, 0, 0, 0))
  assert images.read(saved(tmp_path, 'a.png', half)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
  palette = Image.new('P', (2, 1), 0)
  palette.putpalette([0, 0, 0, 255, 0, 0])
  palette.putpixel((1, 0), 1)
  found = images.read(saved(tmp_path, 'b.png', palette, transparency=0))
  assert found.tolist() == [[[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize('mode, colour, expected', [
  ('L', 128, (128, 128, 128)), ('1', 1, (255, 255, 255)), ('CMYK', (0, 255, 255, 0), (255, 0, 0)),
  ('LA', (128, 255), (128, 128, 128)), ('I;16', 32896, (128, 128, 128)), ('F', 5.0, (255, 255, 255)),
])  # fmt: skip
def test_every_mode_is_made_rgb(tmp_path, mode, colour, expected):
  found = images.read(saved(tmp_path, 'a.tiff', Image.new(mode, (3, 2), colour)))
  assert found.shape == (2, 3, 3) and found.dtype == np.uint8
  assert np.abs(found.astype(int) - expected).max() <= 2


def test_what_was_not_measured_is_black(tmp_path):
  pixels = np.array([[np.nan, np.inf], [1, 2]], np.float32)
  assert images.read(saved(tmp_path, 'a.tiff', Image.fromarray(pixels)))[..., 0].tolist() == [[0, 0], [128, 255]]


def test_of_an_animation_the_first_frame(tmp_path):
  frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
  found = images.read(saved(tmp_path, 'a.gif', frames[0], save_all=True, append_images=frames[1:]))
  assert (found == RED).all()


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
  picture, exif = Image.new('RGB', (4, 2), 'red'), Image.Exif()
  exif[0x0112] = 6  # a quarter turn
  assert images.read(saved(tmp_path, 'a.jpg', picture, exif=exif)).shape == (4, 2, 3)


def test_a_long_strip_is_read_and_a_huge_picture_refused(tmp_path):
  assert images.read(saved(tmp_path, 'a.png', Image.new('1', (20_000, 3)))).shape == (3, 20_000, 3)
  huge = saved(tmp_path, 'b.png', Image.new('1', (20_000, 20_000)))
  with pytest.raises(UserError, match=r'^--image .*b\.png: .*expected at most 178,956,970'):
    images.read(huge, '--image')


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n' + b'\0' * 40])
def test_what_is_no_picture_is_said_in_a_line(tmp_path, content):
  (tmp_path / 'a.png').write_bytes(content)
  with pytest.raises(UserError, match=r'^image .*a\.png: no image that can be read$'):
    images.read(tmp_path / 'a.png')


def test_a_picture_that_ends_in_the_middle_is_said(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
  file = saved(tmp_path, 'a.png', Image.fromarray(pixels))
  file.write_bytes(file.read_bytes()[:3000])
  with pytest.raises(UserError, match='no image that can be read'):
    images.read(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    images.read(tmp_path / 'nowhere.png')


def test_the_middle_square_or_all_of_it():
  wide = np.zeros((2, 6, 3), np.uint8)
  wide[:, 2:4] = 255
  assert (images.resized(wide, 2) == 255).all()
  assert images.resized(wide, 2, crop=False).mean() < 200
