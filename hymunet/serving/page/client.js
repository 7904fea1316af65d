// Talks to the server that this page came from.

let key = "";
const TRIES = 6;

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const useKey = (value) => { key = value; };

export async function model() {
  return read(await fetch("/v1/model"));
}

/** Contours, measures and both pictures of one image; waits and asks again while the server is busy. */
export async function segment(blob, busy) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      const headers = { "Content-Type": "application/octet-stream", ...(key && { "X-API-Key": key }) };
      response = await fetch("/v1/segment?output=all", { method: "POST", body: blob, headers });
    } catch {
      throw new Refusal(0, "The server does not answer. Is it running, and is the network up?");
    }
    if (![429, 503].includes(response.status) || attempt === TRIES) return read(response);
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    busy(seconds);
    await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
  }
}

async function read(response) {
  const content = await response.json().catch(() => ({ error: `The server said ${response.status}.` }));
  if (!response.ok) throw new Refusal(response.status, content.error ?? `The server said ${response.status}.`);
  return content;
}
