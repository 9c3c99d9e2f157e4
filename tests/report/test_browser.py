"""What a reader sees: the report opened in Chromium, with a real mouse and real keys."""

import re
import shutil

import numpy as np
import pytest

from mmjax import report
from tests.report import browser, synthetic

CARD = '#example-1'
REGIONS = f"[...document.querySelectorAll('{CARD} .region')]"
WORDS = f"[...document.querySelectorAll('{CARD} .word')]"
SAYS = f"document.querySelector('{CARD} .says').textContent"
MOST = f"document.querySelector('{CARD} .most').textContent"

pytestmark = pytest.mark.browser


@pytest.fixture(scope='module')
def page():
  with browser.launch() as page:
    yield page


@pytest.fixture
def show(page, tmp_path):
  """Writes a report of some examples, opens it and returns the page."""

  def opened(examples, **how):
    report.write(tmp_path / 'report.html', **synthetic.run(examples))
    page.open(tmp_path / 'report.html', **how)
    page.point('h1')
    return page

  yield opened
  assert page.errors == []


def region_weights(page):
  return page.run(f'{REGIONS}.map(e => +e.nextElementSibling.textContent)')


def word_weights(page):
  return page.run(f"{WORDS}.map(e => +e.querySelector('.weight').textContent)")


def region(n):
  return f'{CARD} .region:nth-of-type({n + 1})'


def word(n):
  return f'{CARD} .word:nth-of-type({n + 1})'


def test_opens_without_asking_for_anything_else(show):
  page = show([synthetic.example(0), synthetic.example(1)])
  loaded = [url for url in page.requests if not url.startswith('data:')]
  assert len(loaded) == 1 and loaded[0].startswith('file:')
  assert page.run(f"document.querySelector('{CARD} img').naturalWidth") == 75
  assert page.run(f"document.querySelector('{CARD} img').clientWidth") >= 360


def test_begins_with_the_first_word_of_the_last_layer(show):
  example = synthetic.example(0)
  page = show([example])
  assert region_weights(page) == pytest.approx(example['word_to_region'][1].mean(0)[0], abs=6e-4)
  assert float(page.run(MOST)) == pytest.approx(example['word_to_region'][1].mean(0).max(), abs=6e-4)
  assert page.run(SAYS) == (
    'The word “[CLS]” reads the regions: softmax weights of layer 5, mean of its 4 heads; each row sums to 1 over the '
    '6 regions. Colours: from 0 to the largest weight of any word in this layer and head.'
  )


def test_another_head_or_layer_changes_what_is_drawn(show):
  example = synthetic.example(0)
  page = show([example])
  shadow = f'getComputedStyle({REGIONS}[1]).boxShadow'
  before = page.run(shadow)
  page.choose('#head', '2')
  assert region_weights(page) == pytest.approx(example['word_to_region'][1, 2, 0], abs=6e-4)
  assert 'softmax weights of layer 5, head 3;' in page.run(SAYS)
  assert page.run(shadow) != before
  page.choose('#layer', 'layer 4')
  assert region_weights(page) == pytest.approx(example['word_to_region'][0, 2, 0], abs=6e-4)
  assert 'softmax weights of layer 4, head 3;' in page.run(SAYS)


def test_a_click_on_a_word_and_then_on_a_region(show):
  example = synthetic.example(0)
  page = show([example])
  page.point(word(7), click=True)
  assert region_weights(page) == pytest.approx(example['word_to_region'][1].mean(0)[7], abs=6e-4)
  assert page.run(f'{WORDS}.map(e => e.ariaPressed)').index('true') == 7
  page.point(region(3), click=True)
  page.point('h1')
  assert word_weights(page) == pytest.approx(example['region_to_word'][1].mean(0)[3], abs=6e-4)
  assert page.run(SAYS).startswith('Region 4 reads the words: softmax weights of layer 5, mean of its 4 heads; each')
  assert set(region_weights(page)) == {0}  # an empty label is 0: the regions are no longer shaded
  strong, weak = (int(pick(example['region_to_word'][1].mean(0)[3])) for pick in (np.argmax, np.argmin))
  colours = page.run(f'{WORDS}.map(e => getComputedStyle(e).backgroundColor)')
  assert colours[strong] != colours[weak]


def test_pointing_previews_and_lets_go(show):
  example = synthetic.example(0)
  page = show([example])
  mean = example['word_to_region'][1].mean(0)
  page.point(word(4))
  assert region_weights(page) == pytest.approx(mean[4], abs=6e-4)
  page.point('h1')
  assert region_weights(page) == pytest.approx(mean[0], abs=6e-4)
  page.point(region(2))  # shows its weight for the word, and nothing else changes
  assert region_weights(page) == pytest.approx(mean[0], abs=6e-4)


def test_weights_of_grid_cells_show_when_pointed_at(show):
  page = show([synthetic.example(0, boxes=synthetic.grid(5))])
  visible = f'{REGIONS}.map(e => getComputedStyle(e.nextElementSibling).visibility)'
  assert set(page.run(visible)) == {'hidden'}
  page.point(region(12))
  assert page.run(visible)[12] == 'visible'


def test_the_keyboard_reaches_words_and_regions(show):
  example = synthetic.example(0)
  page = show([example])
  page.run("document.querySelector('#head').focus()")
  page.key('Tab')
  assert page.run("document.activeElement.matches('#example-1 .region')")
  page.run(f'{WORDS}[0].focus()')
  page.key('ArrowRight')
  page.key('Enter')
  assert page.run(f'{WORDS}.indexOf(document.activeElement)') == 1
  assert region_weights(page) == pytest.approx(example['word_to_region'][1].mean(0)[1], abs=6e-4)
  assert page.run(f'[...{WORDS}, ...{REGIONS}].filter(e => e.tabIndex === 0).length') == 2  # one stop for each group
  assert re.fullmatch(r'region 1: [01]\.\d{3}', page.run(f'{REGIONS}[0].ariaLabel'))


def test_arrows_move_over_a_grid_as_one_sees_it(show):
  page = show([synthetic.example(0, boxes=synthetic.grid(5))])
  page.run(f'{REGIONS}[6].focus()')
  for key, place in (('ArrowRight', 7), ('ArrowDown', 12), ('ArrowLeft', 11), ('ArrowUp', 6)):
    page.key(key)
    assert page.run(f'{REGIONS}.indexOf(document.activeElement)') == place


def test_a_shared_softmax_says_the_share(show):
  example = synthetic.example(0, single_stream=True)
  page = show([example])
  share = 100 * example['word_to_region'][1].mean(0)[0].sum()
  said = f"one softmax runs over more than the regions: {share:.1f} % of this word's attention goes to the 6 regions"
  assert said in page.run(SAYS)


def test_a_direction_that_the_schedule_lacks(show):
  page = show([synthetic.example(0) | {'word_to_region': None}, synthetic.example(1) | {'region_to_word': None}])
  assert page.run(SAYS).startswith('Region 1 reads the words')  # begins with what there is
  page.point(word(2), click=True)
  assert page.run(SAYS).endswith("reads no regions: the model's schedule has no attention from words to regions.")


def test_no_attention_at_all(show):
  page = show([synthetic.example(0) | {'word_to_region': None, 'region_to_word': None}])
  assert 'has no attention from words to regions' in page.run(SAYS)
  assert page.run("document.querySelector('#layer')") is None


def test_weights_that_are_not_finite(show):
  example = synthetic.example(0)
  example['word_to_region'][1, 0, 0, 2] = np.nan
  page = show([example])
  assert page.run(f'{REGIONS}[2].nextElementSibling.textContent') == 'NaN'
  assert float(page.run(f'{REGIONS}[1].nextElementSibling.textContent')) > 0


def test_the_filter(show):
  page = show([synthetic.example(n) for n in range(8)])
  shown = "[...document.querySelectorAll('.example')].filter(e => e.offsetHeight).map(e => +e.id.split('-')[1])"
  assert page.run(shown) == [1, 2, 3, 4, 5, 6, 7, 8]
  page.choose('#filter', 'wrong')
  assert page.run(shown) == [4]
  assert page.run("document.querySelector('#found').textContent") == '1 of 8 examples'
  page.choose('#filter', 'type:shape')
  assert page.run(shown) == [1, 7]
  page.choose('#filter', 'all')
  assert len(page.run(shown)) == 8


@pytest.mark.parametrize('width', [400, 1280])
@pytest.mark.parametrize('dark', [False, True])
def test_fits_and_does_not_jump(show, width, dark):
  examples = [synthetic.example(0), synthetic.example(1, boxes=synthetic.grid(10), single_stream=True)]
  page = show(examples, width=width, dark=dark)
  assert page.run('document.documentElement.scrollWidth <= innerWidth')
  ground = page.run('getComputedStyle(document.body).backgroundColor')
  assert ground == ('rgb(23, 24, 27)' if dark else 'rgb(255, 255, 255)')
  height = page.run('document.documentElement.scrollHeight')
  page.point(region(0), click=True)
  page.choose('#head', '1')
  assert page.run('document.documentElement.scrollHeight') == height


@pytest.mark.parametrize('dark', [False, True])
def test_shaded_words_are_legible(show, dark):
  page = show([synthetic.example(n) for n in range(2)], dark=dark)
  page.point(region(0), click=True)
  pairs = page.run(
    f"""(() => {{
      const canvas = document.createElement('canvas').getContext('2d', {{willReadFrequently: true}});
      const rgb = colour => {{
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
      }};
      const word = {WORDS}[0];
      const style = getComputedStyle(word);
      const turn = +style.getPropertyValue('--turn');
      return [0, .2, .4, .5, .53, .55, .6, .7, .79, .81, .9, 1].map(share => {{
        word.style.setProperty('--share', 100 * share + '%');
        word.classList.toggle('high', share > turn);
        return [rgb(style.color), rgb(style.backgroundColor)];
      }});
    }})()"""
  )
  linear = lambda c: np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
  light = lambda colour: linear(np.array(colour) / 255) @ (0.2126, 0.7152, 0.0722)
  for ink, ground in pairs:
    high, low = sorted((light(ink), light(ground)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_text_from_data_runs_no_script(show):
  example = synthetic.example(0)
  evil = '</script><script>window.ran = 1</script><img src=x onerror="window.ran = 1">'
  example |= {
    'question': evil,
    'words': [evil] * len(example['words']),
    'layer_names': [evil, evil + '2'],
    'prediction': evil,
  }
  page = show([example])
  page.point(word(1), click=True)
  assert page.run('window.ran') is None
  assert evil in page.run(SAYS)


def test_a_missing_browser_fails_with_what_to_do(monkeypatch):
  monkeypatch.setattr(shutil, 'which', lambda name: None)
  with pytest.raises(pytest.fail.Exception, match='install it: apt-get install chromium'), browser.launch():
    pass
