// Questions to the server that sent this page, by relative address: the secret path is never spelt out.

class Refused extends Error {}

async function answer(response) {
  const document = await response.json();
  if (!response.ok) throw new Refused(document.error ?? "the server does not answer");
  return document;
}

const address = (name, parameters) => `api/${name}?${new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null))}`;

export async function ask(name, parameters = {}, signal = undefined) {
  return answer(await fetch(address(name, parameters), { signal }));
}

export async function askBytes(name, parameters = {}) {
  const response = await fetch(address(name, parameters));
  return response.ok ? response.arrayBuffer() : answer(response);
}

export async function tell(name, document = {}) {
  return answer(await fetch(`api/${name}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(document),
  }));
}

/** The points of a chart, as columns. */
export async function points(parameters) {
  const data = await askBytes("points", parameters);
  const n = new DataView(data).getUint32(0, true);
  return {
    n, x: new Float32Array(data, 4, n), y: new Float32Array(data, 4 + 4 * n, n),
    place: new Uint32Array(data, 4 + 8 * n, n), kind: new Uint8Array(data, 4 + 12 * n, n),
  };
}

/** Runs only the last of the calls that come while one is under way. */
export function latest(work, failed) {
  let number = 0;
  return async (...given) => {
    const mine = ++number;
    try {
      const made = await work(() => mine === number, ...given);
      return mine === number ? made : undefined;
    } catch (error) {
      if (mine === number && error.name !== "AbortError") failed(error);
      return undefined;
    }
  };
}
