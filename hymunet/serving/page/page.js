// The page: images in, a list of them, one of them shown.

import { model, Refusal, segment, useKey } from "./client.js";
import { bitmap, draw } from "./draw.js";

const $ = (id) => document.getElementById(id);
const entries = []; // { name, blob, bitmap, state: "waiting" | "working" | "done" | "failed", answer, mask, probability, error }
let shown = null, working = false, limits = null, tint = 0.25;

const SURE = [[0.9, "High"], [0.75, "Middling"], [0, "Low: have a person look"]]; // by the Dice of mask and probabilities

const view = () => document.querySelector("input[name=view]:checked").value;
const say = (text) => { $("status").textContent = text; };
const number = (value) => value.toLocaleString("en");
const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;

async function add(files) {
  const images = [...files].filter((file) => file.size || file.name);
  if (!images.length) return;
  for (const file of images) {
    const entry = { name: file.name || "pasted image", blob: file, state: "waiting" };
    entries.push(entry);
    if (!shown || shown.state !== "working") shown = shown?.state === "waiting" ? shown : entry;
    const preview = await bitmap(file); // browsers differ in what they turn by EXIF; the answer brings what was segmented
    if (!entry.answer) entry.bitmap = preview;
  }
  say(images.length === 1 ? `${images[0].name} added` : `${images.length} images added`);
  render();
  work();
}

async function work() {
  if (working) return;
  working = true;
  for (let entry; (entry = entries.find((one) => one.state === "waiting"));) {
    entry.state = "working";
    entry.note = "Outlining…";
    render();
    try {
      await answer(entry);
      entry.state = "done";
      say(`${entry.name}: ${summary(entry)}`);
    } catch (error) {
      if (error.status === 401 && await unlock()) {
        entry.state = "waiting";
        continue;
      }
      const without = error.status === 401 ? entries.filter((one) => one.state === "waiting") : []; // asked once, not for each
      for (const one of [entry, ...without]) Object.assign(one, { state: "failed", error: sentence(error.message) });
      say(`${entry.name}: ${entry.error}`);
    }
    render();
  }
  working = false;
}

async function answer(entry) {
  if (limits && entry.blob.size > limits.max_bytes) {
    throw new Refusal(413, `The file has ${(entry.blob.size / 2 ** 20).toFixed(1)} MB; at most ${(limits.max_bytes / 2 ** 20).toFixed(0)} MB are taken; save it as JPEG, or smaller`);
  }
  const start = performance.now();
  const found = await segment(entry.blob, (seconds) => { entry.note = `The server is busy; again in ${seconds} s`; render(); });
  entry.seconds = (performance.now() - start) / 1000;
  const { image_jpeg: image, mask_png: mask, probability_png: probability, ...facts } = found;
  const files = { image: bytes(image, "image/jpeg"), mask: bytes(mask, "image/png"), probability: bytes(probability, "image/png") };
  const pictures = await Promise.all([files.image, files.mask, files.probability].map(bitmap));
  [entry.bitmap, entry.mask, entry.probability] = pictures;
  Object.assign(entry, { files, answer: facts });
}

const bytes = (text, type) => new Blob([Uint8Array.from(atob(text), (char) => char.charCodeAt(0))], { type });
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

async function unlock() {
  const asked = $("key").value !== "";
  $("lock-error").hidden = !asked;
  $("key").value = "";
  $("lock").returnValue = "";
  $("lock").showModal();
  await new Promise((resolve) => { $("lock").addEventListener("close", resolve, { once: true }); });
  if ($("lock").returnValue !== "use") return false;
  useKey($("key").value);
  return true;
}

function summary(entry) {
  const { regions, area_fraction: fraction } = entry.answer;
  if (!regions.length) return "nothing outlined";
  return `${regions.length === 1 ? "one region" : `${regions.length} regions`}, ${percent(fraction)} of the image`;
}

function render() {
  document.body.classList.toggle("compact", entries.length > 0);
  $("result").hidden = !shown;
  $("gallery").hidden = entries.length < 2;
  if (shown) renderShown();
  renderList();
}

function renderShown() {
  const done = shown.state === "done";
  $("name").textContent = shown.name;
  $("wait").hidden = done || shown.state === "failed";
  $("wait-text").textContent = shown.state === "waiting" ? "Waiting its turn…" : shown.note ?? "";
  $("error").hidden = shown.state !== "failed";
  $("error-text").textContent = shown.error ?? "";
  $("found").hidden = !done;
  $("unseen").hidden = shown.bitmap !== null;
  $("unseen").textContent = done ? "This browser cannot show so large an image; the outline is drawn to its size."
    : `This browser cannot show the file${shown.state === "failed" ? "" : " before it is outlined"}.`;
  $("result").setAttribute("aria-busy", String(!$("wait").hidden));
  $("opacity-row").hidden = view() !== "overlay";
  $("legend").hidden = view() !== "probability";
  const seen = { overlay: "outline over the image", original: "the image", mask: "mask", probability: "probability" };
  $("canvas").setAttribute("aria-label", done ? `${shown.name}, ${seen[view()]}: ${summary(shown)}` : shown.name);
  draw($("canvas"), shown, done ? view() : "original", tint);
  if (done) renderMeasures();
}

function renderMeasures() {
  const { answer: found, seconds } = shown;
  const small = document.createElement("small");
  const largest = found.regions[0];
  small.textContent = largest ? "of the image is inside the outline" : "No pixel is more likely lesion than the threshold asks";
  $("verdict").replaceChildren(largest ? percent(found.area_fraction) : "Nothing outlined", small);
  const sure = largest ? SURE.find(([least]) => found.confidence >= least)[1] : "Low: have a person look";
  const rows = [
    ["Confidence", `${sure} (${found.confidence.toFixed(2)})`],
    ["Area", `${number(found.area_pixels)} pixels`],
    ["Image", `${number(found.width)} × ${number(found.height)}`],
    ["Regions", number(found.regions.length)],
    ...(largest ? [["Largest, in a box of", `${number(largest.box[2])} × ${number(largest.box[3])}`]] : []),
    ["Answered in", `${seconds.toFixed(2)} s`],
  ];
  $("measures").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    return [term, detail];
  }));
}

function renderList() {
  const focused = [...$("list").children].findIndex((item) => item.contains(document.activeElement));
  $("list").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li"), button = document.createElement("button"), badge = document.createElement("span");
    const words = { waiting: "waiting", working: "working", failed: "failed" };
    const said = entry.state === "done" ? summary(entry) : words[entry.state];
    button.type = "button";
    button.setAttribute("aria-current", String(entry === shown));
    button.setAttribute("aria-label", `${entry.name}: ${said}`);
    button.title = entry.name;
    badge.className = entry.state === "failed" ? "badge bad" : "badge";
    badge.textContent = entry.state === "done" ? percent(entry.answer.area_fraction) : { waiting: "…", working: "…", failed: "!" }[entry.state];
    button.append(thumbnail(entry), badge);
    button.addEventListener("click", () => show(entry));
    item.append(button);
    return item;
  }));
  if (focused >= 0) $("list").children[Math.min(focused, entries.length - 1)]?.firstChild.focus();
}

function thumbnail(entry) {
  if (entry.thumbnail && entry.drawn === entry.state) return entry.thumbnail;
  const canvas = document.createElement("canvas"), whole = document.createElement("canvas");
  draw(whole, entry, entry.state === "done" ? "overlay" : "original", 0.25);
  const side = Math.min(whole.width, whole.height);
  canvas.width = canvas.height = 168;
  canvas.getContext("2d").drawImage(whole, (whole.width - side) / 2, (whole.height - side) / 2, side, side, 0, 0, 168, 168);
  entry.thumbnail = canvas;
  entry.drawn = entry.state;
  return canvas;
}

function show(entry) {
  shown = entry;
  render();
}

async function save(kind, entry = shown) { // what is shown may be another before a large picture is decoded
  const stem = entry.name.replace(/\.[^.]*$/, "");
  const down = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`${name} saved`);
  };
  if (kind === "json") {
    down(new Blob([JSON.stringify(entry.answer, null, 1)], { type: "application/json" }), `${stem}.json`);
  } else if (kind === "overlay") {
    const canvas = document.createElement("canvas");
    const whole = await createImageBitmap(entry.files.image).catch(() => null);
    draw(canvas, { ...entry, bitmap: whole }, "overlay", tint, true);
    canvas.toBlob((blob) => down(blob, `${stem}_outline.png`));
  } else {
    down(entry.files[kind], `${stem}_${kind}.png`);
  }
}

async function takeSample(index) {
  const response = await fetch(`/samples/${index}.png`);
  if (response.ok) add([new File([await response.blob()], `sample ${Number(index) + 1}.png`, { type: "image/png" })]);
}

function listen() {
  for (const [button, input] of [["pick", "files"], ["shoot", "camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      add([...$(input).files]);
      $(input).value = "";
    });
  }
  for (const button of document.querySelectorAll("[data-sample]")) button.addEventListener("click", () => takeSample(button.dataset.sample));
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", renderShown);
  $("opacity").addEventListener("input", () => {
    tint = $("opacity").value / 100;
    $("opacity-value").textContent = `${$("opacity").value} %`;
    $("opacity").setAttribute("aria-valuetext", `${$("opacity").value} percent`);
    renderShown();
  });
  $("retry").addEventListener("click", () => {
    Object.assign(shown, { state: "waiting", error: "" });
    render();
    work();
  });
  $("clear").addEventListener("click", () => {
    entries.length = 0;
    shown = null;
    render();
    say("All images are cleared");
    $("pick").focus();
  });
  let depth = 0;
  const over = (by) => { depth = Math.max(0, depth + by); $("intake").classList.toggle("over", depth > 0); };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !shown || event.target.matches("input") || $("lock").open) return;
    const next = entries[entries.indexOf(shown) + step];
    if (next) show(next);
  });
}

listen();
model().then((found) => {
  limits = found;
  const { source, name, weights_sha256: weights } = found.model;
  $("model").textContent = source.startsWith("models:/") ? source.slice(8).replace("/", ", version ") : `${name}, ${weights.slice(0, 8)}`;
  const mega = (value) => (value / 1e6).toFixed(0);
  $("hint").textContent = `PNG, JPEG, WebP, TIFF or BMP, up to ${(found.max_bytes / 2 ** 20).toFixed(0)} MB and ${mega(found.max_pixels)} megapixels. Images go to this server alone and are not kept.`;
}, (error) => say(error.message));
