'use strict';

// Encodes what is typed with the model's own text tower, and shows the pictures whose vectors are nearest to it.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const [CLS, SEP] = [2, 3];
  const {length, width, heads, eps, activation, columns} = data;

  // base64 of little-endian float16 -> Float32Array
  function unpack(text) {
    const half = new Uint16Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
    return Float32Array.from(half, h => {
      const exponent = h >> 10 & 31, fraction = h & 1023;
      const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * fraction / 1024;
      return h >> 15 ? -size : size;
    });
  }
  const unpacked = tree => typeof tree === 'string' ? unpack(tree)
    : Array.isArray(tree) ? tree.map(unpacked)
    : Object.fromEntries(Object.entries(tree).map(([name, part]) => [name, unpacked(part)]));

  const tower = unpacked(data.tower);
  const vectors = unpack(data.vectors);
  const size = vectors.length / data.names.length;
  const known = new Map(data.words.map((word, id) => [word, id]));
  const activate = {
    quick_gelu: x => x / (1 + Math.exp(-1.702 * x)),
    gelu: x => x / 2 * (1 + erf(x / Math.SQRT2)),
    gelu_tanh: x => x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    relu: x => Math.max(x, 0),
    tanh: Math.tanh,
  }[activation];

  // Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const series = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592].reduce((sum, a) => sum * t + a, 0);
    return Math.sign(x) * (1 - series * t * Math.exp(-x * x));
  }

  // Each of these takes and returns rows: arrays of numbers.
  const dense = (rows, kernel, bias) => rows.map(row => {
    const outs = kernel.length / row.length;
    const out = bias ? Float32Array.from(bias) : new Float32Array(outs);
    row.forEach((value, i) => { for (let o = 0; o < outs; o++) out[o] += value * kernel[i * outs + o]; });
    return out;
  });
  const norm = (rows, {scale, bias}) => rows.map(row => {
    const mean = row.reduce((sum, x) => sum + x, 0) / row.length;
    const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / row.length;
    return row.map((x, i) => (x - mean) / Math.sqrt(variance + eps) * scale[i] + bias[i]);
  });
  const add = (a, b) => a.map((row, n) => row.map((x, i) => x + b[n][i]));

  // Causal self-attention.
  function attend(rows, layer) {
    const [q, k, v] = ['query', 'key', 'value'].map(name => dense(rows, layer[name].kernel, layer[name].bias));
    const part = width / heads;
    const mixed = rows.map((_, n) => {
      const out = new Float32Array(width);
      for (let h = 0; h < heads; h++) {
        const dot = m => { let sum = 0; for (let i = h * part; i < (h + 1) * part; i++) sum += q[n][i] * k[m][i]; return sum; };
        const score = Array.from({length: n + 1}, (_, m) => dot(m) / Math.sqrt(part));
        const most = Math.max(...score), weight = score.map(s => Math.exp(s - most));
        const total = weight.reduce((a, b) => a + b);
        weight.forEach((w, m) => { for (let i = h * part; i < (h + 1) * part; i++) out[i] += w / total * v[m][i]; });
      }
      return out;
    });
    return dense(mixed, layer.out.kernel, layer.out.bias);
  }

  function encode(ids) {
    let x = ids.map((id, n) => tower.word.slice(id * width, (id + 1) * width).map((w, i) => w + tower.position[n * width + i]));
    for (const layer of tower.layers) {
      x = add(x, attend(norm(x, layer.norm), layer));
      const hidden = dense(norm(x, layer.ffn_norm), layer.ffn.expand.kernel, layer.ffn.expand.bias);
      x = add(x, dense(hidden.map(row => row.map(activate)), layer.ffn.project.kernel, layer.ffn.project.bias));
    }
    const [vector] = dense([norm(x, tower.norm).at(-1)], tower.project.kernel);
    const long = Math.hypot(...vector);
    return vector.map(value => value / long);
  }

  const query = document.getElementById('query'), only = document.getElementById('only');
  const says = document.getElementById('says'), found = document.getElementById('found');

  function search() {
    const typed = query.value.toLowerCase().replaceAll('?', ' ').split(/\s+/).filter(word => word);
    const words = typed.filter(word => known.has(word)), strange = typed.filter(word => !known.has(word));
    const told = strange.length ? `Never read in training, left out: ${strange.join(', ')}. ` : '';
    const cut = words.length > length - 2 ? `Only the first ${length - 2} words are read. ` : '';
    found.replaceChildren();
    says.textContent = typed.length ? told + cut : 'Type what to look for.';
    if (!words.length) return;
    const vector = encode([CLS, ...words.slice(0, length - 2).map(word => known.get(word)), SEP]);
    const score = n => vector.reduce((sum, x, i) => sum + x * vectors[n * size + i], 0);
    data.names.map((name, n) => ({name, n, score: score(n)}))
      .filter(({n}) => !only.checked || n >= data.learnt)
      .sort((a, b) => b.score - a.score || a.n - b.n)
      .slice(0, 24)
      .forEach(({name, n, score}) => {
        const item = document.createElement('li'), picture = document.createElement('div'), label = document.createElement('p');
        picture.className = 'picture';
        picture.style.backgroundPosition = `${-64 * (n % columns)}px ${-64 * Math.floor(n / columns)}px`;
        picture.setAttribute('role', 'img');
        picture.setAttribute('aria-label', name);
        label.textContent = name;
        const number = document.createElement('p');
        number.className = 'note';
        number.textContent = score.toFixed(2) + (n >= data.learnt ? ' · held out' : '');
        item.append(picture, label, number);
        found.append(item);
      });
  }

  query.addEventListener('input', search);
  only.addEventListener('change', search);
  search();
})();
