// Pictures on a canvas: the image, its outline, the mask, and probabilities in colours that grow evenly brighter.

const LINE = "#ffd166";
const MAGMA = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const LARGEST = 2048; // pixels of the longer side of what is kept and shown; a phone has no room for more

/** A picture to show, no larger than that; null where the browser cannot read it, such as a TIFF or one too large. */
export async function bitmap(blob) {
  const whole = await createImageBitmap(blob).catch(() => null);
  const scale = whole ? LARGEST / Math.max(whole.width, whole.height) : 1;
  if (scale >= 1) return whole;
  const [resizeWidth, resizeHeight] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
  const small = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  whole.close();
  return small;
}

const ramp = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (MAGMA.length - 1), below = Math.min(Math.floor(place), MAGMA.length - 2);
  return MAGMA[below].map((value, i) => value + (place - below) * (MAGMA[below + 1][i] - value));
});

/** Draws a view of one entry; full: at the image's own size, for a download. */
export function draw(canvas, entry, view, tint, full = false) {
  const { width, height } = size(entry);
  const scale = full ? 1 : Math.min(1, LARGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#2a353b"; // where the browser has no picture
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (view === "mask" && entry.mask) {
    pen.drawImage(entry.mask, 0, 0, canvas.width, canvas.height);
  } else if (view === "probability" && entry.probability) {
    pen.drawImage(entry.probability, 0, 0, canvas.width, canvas.height);
    colour(pen, canvas);
  } else {
    if (entry.bitmap) pen.drawImage(entry.bitmap, 0, 0, canvas.width, canvas.height);
    if (view === "overlay" && entry.answer) outline(pen, canvas, entry.answer, tint);
  }
}

function size(entry) {
  const from = entry.answer ?? entry.bitmap ?? { width: 640, height: 240 };
  return { width: from.width, height: from.height };
}

function outline(pen, canvas, answer, tint) {
  const path = new Path2D();
  const x = canvas.width / answer.width, y = canvas.height / answer.height;
  for (const region of answer.regions) {
    for (const ring of [region.outline, ...region.holes]) {
      ring.forEach(([left, top], i) => path[i ? "lineTo" : "moveTo"]((left + 0.5) * x, (top + 0.5) * y));
      path.closePath();
    }
  }
  pen.globalAlpha = tint;
  pen.fillStyle = LINE;
  pen.fill(path, "evenodd");
  pen.globalAlpha = 1;
  pen.lineJoin = "round";
  const thick = Math.max(2, Math.max(canvas.width, canvas.height) / 300);
  for (const [style, width] of [["rgb(0 0 0 / 65%)", thick * 2], [LINE, thick]]) { // seen on light and on dark skin
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.stroke(path);
  }
}

function colour(pen, canvas) {
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [red, green, blue] = ramp[pixels.data[i]];
    pixels.data[i] = red;
    pixels.data[i + 1] = green;
    pixels.data[i + 2] = blue;
  }
  pen.putImageData(pixels, 0, 0);
}
