"use strict";
(() => {
  const data = JSON.parse(document.getElementById("cases").textContent);
  const at = (id) => document.getElementById(id);
  const column = new Map(data.columns.map(([name], index) => [name, index]));
  const value = (row, name) => data.values[row][column.get(name)];
  const SVG = "http://www.w3.org/2000/svg";
  const BATCH = 48;
  const failing = (data.failing || ["iou"]).map((name) => column.get(name));
  const failed = (row) => failing.some((index) => data.values[row][index] < 0.65);

  // --- light and dark ---
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => { at("theme").setAttribute("aria-pressed", String(shown() === "dark")); };
  at("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = shown() === "dark" ? "light" : "dark";
    label();
  });
  label();

  // --- which cases, in which order ---
  const state = { order: data.order || "dice", down: false, slice: "", search: "", failed: false, rows: [], drawn: 0 };
  for (const [name, text] of data.columns) at("order").add(new Option(text, name, false, name === state.order));
  for (const [slice, values] of Object.entries(data.slices)) {
    const group = document.createElement("optgroup");
    group.label = slice;
    for (const [name, rows] of Object.entries(values)) group.append(new Option(`${name} (${rows.length})`, JSON.stringify([slice, name])));
    at("slice").append(group);
  }

  function choose() {
    let rows = data.ids.map((_, index) => index);
    if (state.slice) { const [slice, name] = JSON.parse(state.slice); rows = [...data.slices[slice][name]]; }
    if (state.search) rows = rows.filter((row) => data.ids[row].toLowerCase().includes(state.search));
    if (state.failed) rows = rows.filter(failed);
    const sign = state.down ? -1 : 1;
    rows.sort((a, b) => {
      const x = value(a, state.order), y = value(b, state.order);
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x - y) || (data.ids[a] < data.ids[b] ? -1 : 1);
    });
    state.rows = rows;
    state.drawn = 0;
    at("grid").replaceChildren();
    at("count").textContent = `${rows.length} of ${data.ids.length}`;
    at("nothing").hidden = rows.length > 0;
    at("direction").textContent = state.down ? "Highest first" : "Lowest first";
    at("direction").setAttribute("aria-pressed", String(state.down));
    draw();
  }

  function element(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
    if (parent) parent.append(made);
    return made;
  }

  function picture(row, layers) {
    const svg = element("svg", { viewBox: "0 0 1000 1000", role: "img", "aria-label": data.ids[row] });
    const parts = data.pictures[row];
    if (!parts) return svg;
    const [image, probability, truth, prediction, other, otherProbability] = parts;
    const grey = layers.side === 1 ? otherProbability : probability;
    element("image", { href: layers.probability ? grey : image, width: 1000, height: 1000, preserveAspectRatio: "none" }, svg);
    if (layers.truth) element("path", { d: truth, class: "truth" }, svg);
    if (layers.prediction && layers.side !== 1) element("path", { d: prediction, class: "prediction" }, svg);
    if (layers.prediction && layers.side !== 0 && other) element("path", { d: other, class: "other" }, svg);
    return svg;
  }

  function format(row, index) {
    const number = data.values[row][index];
    return number === null ? "–" : number.toFixed(data.columns[index][2]);
  }

  function card(place) {
    const row = state.rows[place];
    const made = document.createElement("button");
    made.type = "button";
    made.className = failed(row) ? "case bad" : "case";
    made.dataset.place = place;
    const line = document.createElement("span"), id = document.createElement("span"), score = document.createElement("b");
    id.className = "id";
    id.textContent = made.title = data.ids[row];
    score.textContent = format(row, column.get(state.order));
    line.append(id, score);
    made.append(picture(row, { truth: true, prediction: true }), line);
    made.setAttribute("aria-label", `${data.ids[row]}, ${data.columns[column.get(state.order)][1]} ${score.textContent}`);
    return made;
  }

  function draw() {
    const end = Math.min(state.rows.length, state.drawn + BATCH);
    const cards = [];
    for (; state.drawn < end; state.drawn += 1) cards.push(card(state.drawn));
    at("grid").append(...cards);
    watch.unobserve(at("more")); // it tells changes alone: asked anew, it says whether the end is still near
    watch.observe(at("more"));
  }

  const watch = new IntersectionObserver((entries) => {
    if (entries.at(-1).isIntersecting && state.drawn < state.rows.length) draw();
  }, { rootMargin: "1200px" });

  at("order").addEventListener("change", (event) => { state.order = event.target.value; choose(); });
  at("direction").addEventListener("click", () => { state.down = !state.down; choose(); });
  at("slice").addEventListener("change", (event) => { state.slice = event.target.value; choose(); });
  at("search").addEventListener("input", (event) => { state.search = event.target.value.toLowerCase(); choose(); });
  at("failed").addEventListener("change", (event) => { state.failed = event.target.checked; choose(); });
  at("tools").addEventListener("submit", (event) => event.preventDefault());

  function look(changes) {
    Object.assign(state, changes);
    at("slice").value = state.slice;
    at("order").value = state.order;
    choose();
    at("gallery").scrollIntoView();
    at("gallery").focus({ preventScroll: true });
  }
  for (const button of document.querySelectorAll("button[data-slice]")) {
    button.addEventListener("click", () => look({ slice: JSON.stringify([button.dataset.slice, button.dataset.value]) }));
  }
  if (at("suspicious")) at("suspicious").addEventListener("click", () => look({ slice: "", order: "suspicion", down: true }));

  for (const dot of document.querySelectorAll("circle[data-row], button[data-row]")) {
    dot.addEventListener("click", () => {
      look({ slice: "", search: "", failed: false });
      at("search").value = "";
      at("failed").checked = false;
      open(state.rows.indexOf(Number(dot.dataset.row)));
    });
  }

  // --- by keyboard through the grid ---
  function focus(place) {
    while (place >= state.drawn && state.drawn < state.rows.length) draw();
    const card = at("grid").children[place];
    if (card) card.focus();
  }
  at("grid").addEventListener("keydown", (event) => {
    const card = event.target.closest(".case");
    if (!card) return;
    const across = Math.max(1, getComputedStyle(at("grid")).gridTemplateColumns.split(" ").length);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    const place = Number(card.dataset.place);
    if (step !== undefined) { event.preventDefault(); focus(Math.min(state.rows.length - 1, Math.max(0, place + step))); }
    if (event.key === "Home") { event.preventDefault(); focus(0); }
    if (event.key === "End") { event.preventDefault(); focus(state.rows.length - 1); }
  });
  at("grid").addEventListener("click", (event) => {
    const card = event.target.closest(".case");
    if (card) open(Number(card.dataset.place));
  });

  // --- one case, large ---
  const view = { place: 0, zoom: 1, layers: { truth: true, prediction: true, probability: false } };
  function show() {
    const row = state.rows[view.place];
    at("name").textContent = `${data.ids[row]} (${view.place + 1} of ${state.rows.length})`;
    at("stage").replaceChildren(...(data.models || [""]).map((model, side) => {
      const svg = picture(row, data.models ? { ...view.layers, side } : view.layers);
      svg.style.width = `${view.zoom * 100}%`;
      if (!data.models) return svg;
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = model;
      figure.append(caption, svg);
      return figure;
    }));
    at("stage").classList.toggle("pair", Boolean(data.models));
    at("numbers").replaceChildren(...data.columns.map(([, text], index) => {
      const line = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
      head.scope = "row";
      head.textContent = text;
      cell.textContent = format(row, index);
      line.append(head, cell);
      return line;
    }));
    for (const button of document.querySelectorAll("button[data-layer]")) button.setAttribute("aria-pressed", String(view.layers[button.dataset.layer]));
  }
  function open(place) { view.place = place; view.zoom = 1; show(); at("viewer").showModal(); }
  function step(by) { view.place = Math.min(state.rows.length - 1, Math.max(0, view.place + by)); view.zoom = 1; show(); }
  function zoom(factor) { view.zoom = Math.min(8, Math.max(1, view.zoom * factor)); show(); }
  function layer(name) { view.layers[name] = !view.layers[name]; show(); }
  at("close").addEventListener("click", () => at("viewer").close());
  at("viewer").addEventListener("close", () => focus(view.place));
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("in").addEventListener("click", () => zoom(1.5));
  at("out").addEventListener("click", () => zoom(1 / 1.5));
  for (const button of document.querySelectorAll("button[data-layer]")) button.addEventListener("click", () => layer(button.dataset.layer));
  at("viewer").addEventListener("click", (event) => { if (event.target === at("viewer")) at("viewer").close(); });
  at("viewer").addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), t: () => layer("truth"), p: () => layer("prediction"),
      h: () => layer("probability"), "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act(); }
  });

  choose();
})();
