'use strict';

// A click on the head of a column sorts by it, another the other way round; a third brings back the first order.
(() => {
  const number = text => parseFloat(text.replace(/[<,−–]/g, found => ({'−': '-'})[found] ?? ''));

  for (const table of document.querySelectorAll('.sortable')) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener('click', () => {
        const numeric = head.classList.contains('number');
        const ways = numeric ? {none: 'descending', descending: 'ascending'} : {none: 'ascending', ascending: 'descending'};
        const way = ways[head.ariaSort ?? 'none'] ?? 'none';
        heads.forEach(other => other.removeAttribute('aria-sort'));
        if (way !== 'none') head.ariaSort = way;
        const sign = way === 'descending' ? -1 : 1;
        const key = row => row.cells[column].textContent.trim();
        const compare = (a, b) => {
          if (!numeric) return sign * key(a).localeCompare(key(b));
          const [x, y] = [number(key(a)), number(key(b))];
          return isNaN(x) - isNaN(y) || sign * (x - y);   // what has no number stands last, whichever way
        };
        body.append(...(way === 'none' ? first : [...first].sort(compare)));
      });
    });
  }
})();
