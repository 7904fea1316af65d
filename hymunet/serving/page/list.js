// The row of small pictures. An entry's element stays the same: one that is replaced loses the focus, and the click that
// has begun on it.

import { draw } from "./draw.js";
import { percent, summary } from "./words.js";

const SIDE = 168;
const items = new WeakMap(); // entry -> its <li>
let seen = null; // the entry that was last moved into view

/** show: called with the entry that is chosen. */
export function renderList(list, entries, shown, show) {
  const wanted = entries.map((entry) => items.get(entry) ?? made(entry, show));
  for (const item of [...list.children]) if (!wanted.includes(item)) item.remove();
  wanted.forEach((item, place) => { if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null); });
  for (const entry of entries) update(entry, entry === shown);
  if (shown !== seen && shown) moveIntoView(list, items.get(shown));
  seen = shown;
}

export const focusItem = (entry) => items.get(entry)?.querySelector("button").focus();

function made(entry, show) {
  const item = document.createElement("li"), button = document.createElement("button");
  const canvas = document.createElement("canvas"), badge = document.createElement("span");
  canvas.width = canvas.height = SIDE;
  button.type = "button";
  button.title = entry.name;
  button.append(canvas, badge);
  button.addEventListener("click", () => show(entry));
  item.append(button);
  items.set(entry, item);
  return item;
}

function update(entry, current) {
  const button = items.get(entry).querySelector("button"), badge = button.querySelector("span");
  const done = entry.state === "done";
  button.setAttribute("aria-current", String(current));
  button.setAttribute("aria-label", `${entry.name}: ${done ? summary(entry.answer) : entry.state}`);
  badge.className = entry.state === "failed" ? "badge bad" : "badge";
  badge.textContent = done ? percent(entry.answer.area_fraction) : { waiting: "…", working: "…", failed: "!" }[entry.state];
  if (entry.drawn === done && entry.drawnOf === entry.bitmap) return;
  thumbnail(button.querySelector("canvas"), entry, done);
  Object.assign(entry, { drawn: done, drawnOf: entry.bitmap });
}

function thumbnail(canvas, entry, done) {
  const whole = document.createElement("canvas");
  draw(whole, entry, done ? "overlay" : "original", 0.25);
  const side = Math.min(whole.width, whole.height);
  canvas.getContext("2d").drawImage(whole, (whole.width - side) / 2, (whole.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
}

function moveIntoView(list, item) {
  const frame = list.getBoundingClientRect(), box = item.getBoundingClientRect(), margin = 28; // the row fades at its end
  if (box.left < frame.left) list.scrollLeft -= frame.left - box.left + margin;
  if (box.right > frame.right - margin) list.scrollLeft += box.right - frame.right + margin;
}
