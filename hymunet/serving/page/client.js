// Talks to the server that this page came from.

let key = "";
const TRIES = 6;
const SILENT = "The server does not answer. Is it running, and is the network up?";

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (value) => { key = String.fromCharCode(...new TextEncoder().encode(value)); }; // a header is bytes

export async function model() {
  return read(await fetch("/v1/model").catch(() => { throw new Refusal(0, SILENT); }));
}

/** Contours, measures and pictures of one image; waits and asks again while the server is busy, until the signal. */
export async function segment(blob, busy, signal) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      const headers = { "Content-Type": "application/octet-stream", ...(key && { "X-API-Key": key }) };
      response = await fetch("/v1/segment?output=all", { method: "POST", body: blob, headers, signal });
    } catch {
      signal.throwIfAborted();
      const readable = await blob.slice(0, 1).arrayBuffer().then(() => true, () => false);
      throw new Refusal(0, readable ? SILENT
        : "The file cannot be read: it is a folder, or was changed or removed since it was chosen. Choose it again.");
    }
    if (![429, 503].includes(response.status) || attempt === TRIES) return read(response);
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    busy(seconds);
    await new Promise((resolve) => {
      signal.addEventListener("abort", resolve, { once: true });
      setTimeout(resolve, seconds * 1000);
    });
    signal.throwIfAborted();
  }
}

async function read(response) {
  const content = await response.json().catch(() => null);
  if (response.ok && content) return content;
  throw new Refusal(response.status, content?.error || (response.ok ? "The answer broke off. Try again." : `The server said ${response.status}.`));
}
