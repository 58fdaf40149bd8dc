// Byte-level byte-pair encoding, as gptlib.tokenizers.BPETokenizer does it with the `tokenizers` library.

// How GPT-2 cuts a text before it merges: contractions, words, numbers, other signs, blanks.
const PIECE = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The printable character that stands for each of the 256 bytes: itself, or the next one from 256 on. */
function byteCharacters() {
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

export class BPE {
  /** Take what `BPETokenizer.save` wrote, parsed. */
  constructor({ model }) {
    this.idOf = new Map(Object.entries(model.vocab));
    this.tokens = [];
    for (const [token, id] of this.idOf) this.tokens[id] = token;
    this.rank = new Map(model.merges.map((pair, rank) => [pair.join(" "), rank]));
    this.characters = byteCharacters();
    this.byteOf = new Map(this.characters.map((character, byte) => [character, byte]));
  }

  /** Return the ids of a text. What spells a special token is text like any other. */
  encode(text) {
    return [...text.matchAll(PIECE)].flatMap(([piece]) => this.merge(piece));
  }

  /** Return the text that ids stand for; bytes that are no text become U+FFFD. */
  decode(ids) {
    const bytes = ids.flatMap((id) => [...this.tokens[id]].map((character) => this.byteOf.get(character)));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
  }

  /** Merge the bytes of a piece: of all neighbours the pair that was learned first, until none is known. */
  merge(piece) {
    const parts = [...new TextEncoder().encode(piece)].map((byte) => this.characters[byte]);
    while (parts.length > 1) {
      const ranks = parts.slice(1).map((part, i) => this.rank.get(`${parts[i]} ${part}`) ?? Infinity);
      const best = Math.min(...ranks);
      if (best === Infinity) break;
      const i = ranks.indexOf(best);
      parts.splice(i, 2, parts[i] + parts[i + 1]);
    }
    return parts.map((part) => this.idOf.get(part));
  }
}
