// From logits to a token. The same numbers in Python give the same token.

/** A small random number generator: a seed to a function that returns numbers in [0, 1). */
export function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The topK best tokens, best first, with the probabilities to draw from: [[id, p], ...]. Temperature 0: the best. */
export function candidates(logits, temperature, topK) {
  const ids = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return [[ids[0], 1]];
  const kept = ids.slice(0, topK);
  const weights = kept.map((id) => Math.exp((logits[id] - logits[kept[0]]) / temperature));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return kept.map((id, i) => [id, weights[i] / sum]);
}

/** The first token at which the summed probabilities exceed u, a number in [0, 1). */
export function draw(choices, u) {
  let sum = 0;
  for (const [id, p] of choices) {
    sum += p;
    if (u < sum) return id;
  }
  return choices.at(-1)[0]; // the sum falls short of one by rounding
}
