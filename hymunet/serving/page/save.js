// Downloads: the picture with its outline at the image's own size, and what the server sent.

import { draw } from "./draw.js";
import { number } from "./words.js";

/** Saves one of an entry's files and gives its name; an Error says, for people, what this browser cannot do. */
export async function save(entry, kind, tint) {
  const name = `${entry.name.replace(/\.[^.]*$/, "")}${{ json: ".json", overlay: "_outline.png" }[kind] ?? `_${kind}.png`}`;
  const content = {
    json: () => new Blob([JSON.stringify(entry.answer, null, 1)], { type: "application/json" }),
    overlay: () => picture(entry, tint),
  }[kind] ?? (() => entry.files[kind]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await content());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return name;
}

async function picture(entry, tint) {
  const whole = await createImageBitmap(entry.files.image).catch(() => null);
  const canvas = document.createElement("canvas");
  if (whole) draw(canvas, { ...entry, bitmap: whole }, "overlay", tint, true);
  const blob = whole && await new Promise((resolve) => { canvas.toBlob(resolve); });
  whole?.close();
  if (blob) return blob;
  const { width, height } = entry.answer;
  throw new Error(`This browser makes no picture of ${number(width)} × ${number(height)} pixels. The mask and the contours can be saved.`);
}
