const found = {}, at = (id) => document.getElementById(id), names = () => [...document.querySelectorAll('.case .id')].map((e) => e.textContent);
const key = (target, name) => target.dispatchEvent(new KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true }));
const set = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event('change', { bubbles: true })); };
try {
  found.first = names();
  at('direction').click(); found.down = names();
  set('order', 'confidence'); found.confidence = names(); at('direction').click(); set('order', 'dice');
  at('failed').click(); found.failed = at('count').textContent; at('failed').click();
  at('search').value = 'case_0007'; at('search').dispatchEvent(new Event('input')); found.search = names();
  at('search').value = ''; at('search').dispatchEvent(new Event('input'));
  const button = document.querySelector('button[data-slice]'); button.click();
  found.slice = [button.dataset.value, at('count').textContent]; set('slice', '');
  at('suspicious').click(); found.suspicious = names()[0]; at('direction').click(); set('order', 'dice');
  set('order', 'suspicion'); at('direction').click(); document.querySelector('#labels button[data-row]').click();
  found.label = [at('viewer').open, at('name').textContent]; at('close').click(); at('direction').click(); set('order', 'dice');
  const cards = document.querySelectorAll('.case'); cards[0].focus(); key(cards[0], 'ArrowRight');
  found.right = document.activeElement.dataset.place;
  key(document.activeElement, 'ArrowDown'); found.below = Number(document.activeElement.dataset.place) > 1;
  key(document.activeElement, 'End'); found.end = document.activeElement.dataset.place;
  key(document.activeElement, 'Home'); document.activeElement.click(); found.open = at('viewer').open;
  found.title = at('name').textContent; key(at('viewer'), 'ArrowRight'); found.next = at('name').textContent;
  const layers = () => at('stage').querySelectorAll('path').length; found.both = layers();
  key(at('viewer'), 't'); found.without = layers(); key(at('viewer'), 't'); key(at('viewer'), '+');
  found.zoom = at('stage').firstChild.style.width; found.numbers = at('numbers').children.length;
  const plain = at('stage').querySelector('image').getAttribute('href'); key(at('viewer'), 'h');
  found.probability = at('stage').querySelector('image').getAttribute('href') !== plain; at('close').click();
  found.closed = !at('viewer').open;
  const before = getComputedStyle(document.body).backgroundColor; at('theme').click();
  found.theme = [before, getComputedStyle(document.body).backgroundColor];
  found.labelled = [...document.querySelectorAll('button, select, input')].every((e) => e.textContent.trim() || e.ariaLabel || e.closest('label'));
  const width = document.documentElement.clientWidth;
  found.cards = [...document.querySelectorAll('.case')].map((e) => { const id = e.querySelector('.id'); return [e.title === id.textContent, getComputedStyle(id).display]; });
  found.wide = [...document.querySelectorAll('main *, header *')].filter((e) => !e.closest('.scroll, nav, .skip, .hidden') && e.getBoundingClientRect().right > width + 1)
    .map((e) => `${e.tagName}.${e.className} ${e.getBoundingClientRect().right} of ${width}`);
  found.requests = performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).map((e) => e.name);
} catch (error) { faults.push(String(error)); }
const out = document.createElement('pre'); out.id = 'found'; out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify({ ...found, faults })))); document.body.append(out);
