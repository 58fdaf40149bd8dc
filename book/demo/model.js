// BabyGPT itself: fetched on demand, run by onnxruntime-web in WebAssembly on one thread.

import { BPE } from "./bpe.js";

export const CONTEXT = 128; // tokens that the model reads
const RUNTIME = new URL("../vendor/ort/", import.meta.url).href;
const FILES = {
  runtime: new URL("ort-wasm-simd-threaded.wasm", RUNTIME),
  model: new URL("babygpt.onnx", import.meta.url),
  tokenizer: new URL("tokenizer.json", import.meta.url),
};
// A module with one instruction on vectors: valid only where the browser knows them.
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

/** Say what this browser lacks, or nothing. */
export function missing() {
  if (typeof WebAssembly !== "object") return "WebAssembly";
  return WebAssembly.validate(SIMD) ? "" : "WebAssembly SIMD";
}

/** Fetch a file; tell `progress` of every part that arrives, in bytes. */
async function download(url, progress) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}`);
  const reader = response.body.getReader(), parts = [];
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value);
    progress(value.length);
  }
  return new Blob(parts).arrayBuffer();
}

/** Fetch everything and start the model. `progress` is told the bytes that each part brings. */
export async function load(progress = () => {}) {
  const [runtime, model, json] = await Promise.all(Object.values(FILES).map((url) => download(url, progress)));
  const ort = await import(`${RUNTIME}ort.wasm.min.mjs`);
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmPaths: RUNTIME, wasmBinary: runtime });
  const session = await ort.InferenceSession.create(new Uint8Array(model));
  return new BabyGPT(ort, session, new BPE(JSON.parse(new TextDecoder().decode(json))));
}

class BabyGPT {
  constructor(ort, session, tokenizer) {
    Object.assign(this, { ort, session, tokenizer, last: Promise.resolve() });
  }

  /** Run on the last CONTEXT of the ids: { logits (V,), attention (layers, heads, T, T) }, each with data and dims. */
  async run(ids, outputs = ["logits", "attention"]) {
    const read = BigInt64Array.from(ids.slice(-CONTEXT), BigInt);
    const feeds = { ids: new this.ort.Tensor("int64", read, [1, read.length]) };
    this.last = this.last.catch(() => {}).then(() => this.session.run(feeds, outputs)); // one at a time
    return this.last;
  }
}
