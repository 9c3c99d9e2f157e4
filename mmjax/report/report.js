'use strict';

// Draws the attention of each example: a picked word shades the regions, a picked region shades the words.
(() => {
  const LARGEST = 65534;   // of the fixed-point weights; LARGEST + 1 stands for a value that is not finite
  const layer = document.getElementById('layer');
  const head = document.getElementById('head');
  const filter = document.getElementById('filter');

  const unpack = text => new Uint16Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const turn = () => +getComputedStyle(document.documentElement).getPropertyValue('--turn');
  const shown = weight => weight.toFixed(3);
  const percent = share => `${(100 * share).toFixed(1)} %`;
  const label = element => element.matches('.region') ? element.nextElementSibling : element.lastElementChild;
  const many = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

  // A map of one direction: row(layer, head, query) -> weights, one for each key.
  function reader(map, queries, keys) {
    if (!map) return null;
    const values = unpack(map.weights);
    const one = (l, h, q, k) => {
      const value = values[((l * map.heads + h) * queries + q) * keys + k];
      return value > LARGEST ? NaN : value / LARGEST;
    };
    const row = (l, h, q) => Array.from({length: keys}, (_, k) => {
      if (h !== 'mean') return one(l, h, q, k);
      let sum = 0;
      for (let n = 0; n < map.heads; n++) sum += one(l, n, q, k);
      return sum / map.heads;
    });
    const most = (l, h) => {
      let found = 0;
      for (let q = 0; q < queries; q++) for (const weight of row(l, h, q)) if (weight > found) found = weight;
      return found;
    };
    return {...map, row, most};
  }

  function start(card, data) {
    const words = [...card.querySelectorAll('.word')];
    const regions = [...card.querySelectorAll('.region')];
    const legend = card.querySelector('.legend');
    const says = card.querySelector('.says');
    const sides = {
      word: {from: words, to: regions, noun: 'region', plural: 'regions',
             map: reader(data.word_to_region, words.length, regions.length)},
      region: {from: regions, to: words, noun: 'word', plural: 'words',
               map: reader(data.region_to_word, regions.length, words.length)},
    };
    const first = !sides.word.map && sides.region.map ? 'region' : 'word';
    let picked = {kind: first, index: 0};
    let preview = null;

    function shade(element, weight, most) {
      const share = weight > 0 && most > 0 ? weight / most : 0;
      element.classList.add('shaded');
      element.classList.toggle('high', share > turn());
      element.style.setProperty('--share', `${(100 * share).toFixed(2)}%`);
      label(element).textContent = shown(weight);
      element.ariaLabel = `${element.dataset.name}: ${shown(weight)}`;
    }

    function clear(element) {
      element.classList.remove('shaded', 'high', 'picked');
      label(element).textContent = '';
      element.ariaLabel = element.dataset.name;
      element.ariaPressed = 'false';
      element.tabIndex = -1;
    }

    function explain(side, at, kind, index, weights) {
      const {map, noun, plural, to} = side;
      const name = kind === 'word' ? `The word “${data.words[index]}”` : `Region ${index + 1}`;
      if (!map) return `${name} reads no ${plural}: the model's schedule has no attention from ${kind}s to ${plural}.`;
      const h = head.value === 'mean' ? `mean of its ${many(map.heads, 'head')}` : `head ${+head.value + 1}`;
      if (!weights.length) return `${layer.value}, ${h}: no ${kind} reads the ${plural} there; choose another.`;
      const total = weights.reduce((a, b) => a + b, 0);
      const rest = kind === 'word' ? `this word's` : `this region's`;
      const sums = map.shared[at]
        ? `one softmax runs over more than the ${plural}: ${percent(total)} of ${rest} attention goes to the ` +
          `${many(to.length, noun)}, the rest elsewhere`
        : `each row sums to 1 over the ${many(to.length, noun)}`;
      return `${name} reads the ${plural}: softmax weights of ${layer.value}, ${h}; ${sums}. ` +
        `Colours: from 0 to the largest weight of any ${kind} in this layer and head.`;
    }

    function draw() {
      [...words, ...regions].forEach(clear);
      const {kind, index} = preview ?? picked;
      const side = sides[kind];
      card.dataset.shaded = side.plural;
      const at = side.map ? side.map.layers.indexOf(layer.value) : -1;
      const h = head && head.value !== 'mean' ? +head.value : 'mean';
      const drawn = at >= 0 && (h === 'mean' || h < side.map.heads);
      let weights = [];
      if (drawn) {
        const most = side.map.most(at, h);
        weights = side.map.row(at, h, index);
        side.to.forEach((element, n) => shade(element, weights[n], most));
        legend.querySelector('.most').textContent = shown(most);
      }
      legend.style.visibility = drawn ? 'visible' : 'hidden';
      side.from[index]?.classList.add('picked');
      for (const [name, {from}] of Object.entries(sides)) {
        const chosen = from[name === picked.kind ? picked.index : 0];
        if (chosen) chosen.tabIndex = 0;
      }
      const pressed = sides[picked.kind].from[picked.index];
      if (pressed) pressed.ariaPressed = 'true';
      says.textContent = explain(side, at, kind, index, weights);
    }

    function listen(kind, elements) {
      elements.forEach((element, index) => {
        element.dataset.name = element.ariaLabel;
        element.addEventListener('click', () => {
          picked = {kind, index};
          preview = null;
          draw();
        });
        const look = wanted => {
          if (!wanted || picked.kind !== kind) return;
          preview = {kind, index};
          draw();
        };
        const lookAway = () => {
          if (!preview) return;
          preview = null;
          draw();
        };
        element.addEventListener('pointerenter', event => look(event.pointerType === 'mouse'));
        element.addEventListener('focus', () => look(element.matches(':focus-visible')));
        element.addEventListener('pointerleave', lookAway);
        element.addEventListener('blur', lookAway);
        element.addEventListener('keydown', event => {
          const next = neighbour(elements, element, event.key);
          if (!next) return;
          event.preventDefault();
          next.focus();
        });
      });
    }

    listen('word', words);
    listen('region', regions);
    legend.hidden = !sides.word.map && !sides.region.map;
    draw();
    return draw;
  }

  // The element to which an arrow key leads: the nearest one on that side.
  function neighbour(elements, from, key) {
    const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[key];
    if (!way) return null;
    const middle = element => {
      const box = element.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    };
    const [x, y] = middle(from);
    let best = null;
    let least = Infinity;
    for (const element of elements) {
      const [dx, dy] = [middle(element)[0] - x, middle(element)[1] - y];
      const along = dx * way[0] + dy * way[1];
      const across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      const cost = along + 3 * across;
      if (along > 1 && cost < least) [best, least] = [element, cost];
    }
    return best;
  }

  const cards = [...document.querySelectorAll('.example')];
  const data = JSON.parse(document.getElementById('attention').textContent);
  const draws = cards.map((card, n) => start(card, data[n]));
  const drawAll = () => draws.forEach(draw => draw());
  for (const select of [layer, head]) select?.addEventListener('change', drawAll);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);

  function sift() {
    const wanted = filter.value;
    const fits = card => wanted === 'all' || card.dataset.verdict === wanted || `type:${card.dataset.type}` === wanted;
    for (const card of cards) card.hidden = !fits(card);
    const count = cards.filter(fits).length;
    const none = 'None: each of these answers is right or not known.';
    document.getElementById('found').textContent =
      wanted === 'all' ? '' : count ? `${count} of ${many(cards.length, 'example')}` : none;
  }
  if (filter) {
    filter.addEventListener('change', sift);
    sift();   // a browser that goes back keeps the choice
  }
})();
