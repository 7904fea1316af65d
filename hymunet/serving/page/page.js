// The page: images in, a list of them, one of them shown.

import { model, Refusal, segment, useKey } from "./client.js";
import { bitmap, draw } from "./draw.js";
import { focusItem, renderList } from "./list.js";
import { save } from "./save.js";
import { measures, megabytes, percent, sentence, summary } from "./words.js";

const $ = (id) => document.getElementById(id);
const entries = []; // { name, blob, stop, bitmap, state: "waiting" | "working" | "done" | "failed", answer, files, mask, probability, error, unsaved }
let shown = null, working = false, limits = null, tint = 0.25;

const view = () => document.querySelector("input[name=view]:checked").value;
const say = (text) => { $("status").textContent = text; };

function add(files) {
  const images = [...files].filter((file) => file.size || file.name);
  if (!images.length) return;
  const added = images.map((blob) => ({ name: blob.name || "pasted image", blob, state: "waiting", stop: new AbortController() }));
  entries.push(...added);
  if (!["waiting", "working"].includes(shown?.state)) [shown] = added;
  say(added.length === 1 ? `${added[0].name} added` : `${added.length} images added`);
  render();
  work();
  preview(added);
}

/** As the browser reads the files, until the answers bring what was segmented: browsers differ in what they turn by EXIF. */
async function preview(added) {
  const wanted = (entry) => !entry.answer && entries.includes(entry);
  for (const entry of added) {
    const picture = wanted(entry) ? await bitmap(entry.blob) : null;
    if (wanted(entry)) {
      entry.bitmap = picture;
      render();
    } else {
      picture?.close();
    }
  }
}

function remove(...removed) {
  const place = Math.max(0, entries.indexOf(shown));
  for (const entry of removed) {
    entries.splice(entries.indexOf(entry), 1);
    entry.stop.abort();
  }
  if (!entries.includes(shown)) shown = entries[Math.min(place, entries.length - 1)] ?? null;
  render();
  if (!shown) $("pick").focus();
}

async function work() {
  if (working) return;
  working = true;
  try {
    for (let entry; (entry = entries.find((one) => one.state === "waiting"));) {
      await outlined(entry);
      render();
    }
  } finally {
    working = false;
  }
}

async function outlined(entry) {
  Object.assign(entry, { state: "working", note: "Outlining…" });
  render();
  try {
    await answer(entry);
    entry.state = "done";
    if (entries.includes(entry)) say(`${entry.name}: ${summary(entry.answer)}`);
    if (!limits) introduce();
  } catch (error) {
    if (!entries.includes(entry)) return;
    if (error.status === 401 && await unlock()) {
      entry.state = "waiting";
      return;
    }
    const without = error.status === 401 ? entries.filter((one) => one.state === "waiting") : []; // asked once, not for each
    for (const one of [entry, ...without]) Object.assign(one, { state: "failed", error: sentence(error.message) });
    say(`${entry.name}: ${entry.error}`);
  }
}

async function answer(entry) {
  if (limits && entry.blob.size > limits.max_bytes) {
    throw new Refusal(413, `The file has ${megabytes(entry.blob.size, 1)}; at most ${megabytes(limits.max_bytes)} are taken; save it as JPEG, or smaller`);
  }
  const start = performance.now();
  const busy = (seconds) => { entry.note = `The server is busy; again in ${seconds} s`; render(); };
  const found = await segment(entry.blob, busy, entry.stop.signal);
  entry.seconds = (performance.now() - start) / 1000;
  const { image_jpeg: image, mask_png: mask, probability_png: probability, ...facts } = found;
  const files = { image: bytes(image, "image/jpeg"), mask: bytes(mask, "image/png"), probability: bytes(probability, "image/png") };
  const pictures = await Promise.all([files.image, files.mask, files.probability].map(bitmap));
  entry.bitmap?.close();
  [entry.bitmap, entry.mask, entry.probability] = pictures;
  Object.assign(entry, { files, answer: facts });
}

const bytes = (text, type) => new Blob([Uint8Array.from(atob(text), (char) => char.charCodeAt(0))], { type });

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

function render() {
  document.body.classList.toggle("compact", entries.length > 0);
  $("result").hidden = !shown;
  $("gallery").hidden = entries.length < 2;
  if (shown) renderShown();
  renderList($("list"), entries, shown, show);
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
  $("unsaved").hidden = !shown.unsaved;
  $("unsaved").textContent = shown.unsaved ?? "";
  const seen = { overlay: "outline over the image", original: "the image", mask: "mask", probability: "probability" };
  $("canvas").setAttribute("aria-label", done ? `${shown.name}, ${seen[view()]}: ${summary(shown.answer)}` : shown.name);
  draw($("canvas"), shown, done ? view() : "original", tint);
  if (done) renderMeasures(shown);
}

function renderMeasures({ answer: found, seconds }) {
  const small = document.createElement("small");
  small.textContent = found.regions.length ? "of the image is inside the outline" : "No pixel is more likely lesion than the threshold asks";
  $("verdict").replaceChildren(found.regions.length ? percent(found.area_fraction) : "Nothing outlined", small);
  $("measures").replaceChildren(...measures(found, seconds).flatMap(([name, value]) => {
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    return [term, detail];
  }));
}

function show(entry) {
  shown = entry;
  render();
}

async function download(kind, entry = shown) { // another may be shown before a large picture is decoded
  try {
    say(`${await save(entry, kind, tint)} saved`);
    entry.unsaved = "";
  } catch (error) {
    entry.unsaved = error.message;
    say(entry.unsaved);
  }
  if (shown) renderShown();
}

async function takeSample(index) {
  const name = `sample ${Number(index) + 1}`;
  try {
    const response = await fetch(`/samples/${index}.png`);
    if (!response.ok) throw new Error(`The server said ${response.status}`);
    add([new File([await response.blob()], `${name}.png`, { type: "image/png" })]);
    trouble("sample", "");
  } catch {
    trouble("sample", `The ${name} does not come from the server. Is it running, and is the network up?`, () => takeSample(index));
  }
}

/** Shows what is wrong with no image in particular, with a way to try again; an empty text takes back what was said of it. */
function trouble(about, text, again) {
  if (!text && $("trouble").dataset.about !== about) return;
  $("trouble").dataset.about = about;
  $("trouble").hidden = !text;
  $("trouble-text").textContent = text;
  $("again").hidden = !again;
  $("again").onclick = again;
}

async function introduce() {
  try {
    const found = await model();
    const { source, name, weights_sha256: weights } = found.model;
    $("model").textContent = source.startsWith("models:/") ? source.slice(8).replace("/", ", version ") : `${name}, ${weights.slice(0, 8)}`;
    const mega = (found.max_pixels / 1e6).toFixed(0);
    $("hint").textContent = `PNG, JPEG, WebP, TIFF or BMP, up to ${megabytes(found.max_bytes)} and ${mega} megapixels. Images go to this server alone and are not kept.`;
    limits = found;
    trouble("model", "");
  } catch (error) {
    const why = error instanceof Refusal ? error.message : "Its answer is not understood.";
    trouble("model", `Which model answers here is not known. ${why}`, introduce);
  }
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
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => download(button.dataset.save));
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
    $("name").focus(); // the button is gone
    work();
  });
  $("remove").addEventListener("click", () => {
    say(`${shown.name} removed`);
    remove(shown);
  });
  $("clear").addEventListener("click", () => {
    remove(...entries);
    say("All images are cleared");
  });
  let depth = 0;
  const over = (by) => { depth = Math.max(0, depth + by); $("intake").classList.toggle("over", depth > 0); };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    const { files } = event.dataTransfer;
    trouble("drop", files.length ? "" : "What was dropped is no file. Save the picture first, and drop the file.");
    add(files);
  });
  document.addEventListener("paste", (event) => add(event.clipboardData.files));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const taken = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey; // by the browser, to go back for one
    if (!step || taken || !shown || event.target.matches("input") || $("lock").open) return;
    const next = entries[entries.indexOf(shown) + step];
    if (!next) return;
    event.preventDefault();
    show(next);
    if ($("list").contains(document.activeElement)) focusItem(next);
  });
}

listen();
introduce();
