const found = {}, at = (id) => document.getElementById(id), names = () => [...document.querySelectorAll('.case .id')].map((e) => e.textContent);
const key = (target, name) => target.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true }));
const set = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event('change', { bubbles: true })); };
try {
  found.first = names(); found.order = at('order').value;
  at('direction').click(); found.down = names(); at('direction').click();
  set('order', 'dice1'); found.second = names(); set('order', 'difference');
  at('failed').click(); found.failed = at('count').textContent; at('failed').click();
  const button = document.querySelector('button[data-slice="flipped"]'); button.click();
  found.flipped = [button.dataset.value, at('count').textContent, ...names()];
  const dots = document.querySelectorAll('.scatter circle'); found.dots = dots.length;
  dots[7].dispatchEvent(new MouseEvent('click', { bubbles: true }));
  found.dot = [at('viewer').open, at('name').textContent]; at('close').click();
  found.all = at('count').textContent;
  const cards = document.querySelectorAll('.case'); found.card = cards[0].querySelectorAll('path').length;
  cards[0].focus(); key(cards[0], 'ArrowRight'); found.right = document.activeElement.dataset.place;
  key(document.activeElement, 'End'); found.end = document.activeElement.dataset.place;
  key(document.activeElement, 'Home'); document.activeElement.click();
  const stage = at('stage'), sides = () => [...stage.querySelectorAll('figure')].map((e) => [e.querySelector('figcaption').textContent, ...[...e.querySelectorAll('path')].map((p) => p.className.baseVal)]);
  found.sides = sides(); key(at('viewer'), 'p'); found.without = sides(); key(at('viewer'), 'p');
  found.beside = stage.children[0].getBoundingClientRect().right <= stage.children[1].getBoundingClientRect().left;
  const shown = () => [...stage.querySelectorAll('image')].map((e) => e.getAttribute('href'));
  const plain = shown(); key(at('viewer'), 'h'); const grey = shown();
  found.probabilities = [plain[0] === plain[1], grey[0] !== grey[1], grey[0] !== plain[0]];
  key(at('viewer'), '+'); found.zoom = [...stage.querySelectorAll('svg')].map((e) => e.style.width);
  key(at('viewer'), 'ArrowRight'); found.next = at('name').textContent; at('close').click(); found.closed = !at('viewer').open;
  const before = getComputedStyle(document.body).backgroundColor; at('theme').click();
  found.theme = [before, getComputedStyle(document.body).backgroundColor];
  found.labelled = [...document.querySelectorAll('button, select, input')].every((e) => e.textContent.trim() || e.ariaLabel || e.closest('label'));
  const width = document.documentElement.clientWidth;
  found.wide = [...document.querySelectorAll('main *, header *')].filter((e) => !e.closest('.scroll, nav, .skip, .hidden') && e.getBoundingClientRect().right > width + 1)
    .map((e) => `${e.tagName}.${e.className} ${e.getBoundingClientRect().right} of ${width}`);
  found.requests = performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).map((e) => e.name);
} catch (error) { faults.push(String(error)); }
const out = document.createElement('pre'); out.id = 'found'; out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify({ ...found, faults })))); document.body.append(out);
