// What the findings know of heads and layers, as `itlens.places()`: opened when it is first asked for, then searched and
// read place by place. The block is written by itlens/report/explorer.py, which says what is in it.
(() => {
  "use strict";
  const NO_HEAD = 65535, SIDES = ["base", "tuned"], FIELDS = ["value", "base", "tuned", "low", "high", "p"];
  const ARRAYS = { uint1: Uint8Array, uint2: Uint16Array, uint4: Uint32Array, int4: Int32Array, float4: Float32Array };

  // the columns, whose bytes are sorted by their place in the number
  function read(bytes) {
    const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, start)));
    const columns = new Map();
    let at = start;
    for (const [name, kind, width, count] of header.columns) {
      const values = new ARRAYS[kind + width](count), out = new Uint8Array(values.buffer);
      for (let plane = 0; plane < width; plane++) {
        for (let i = 0, to = plane; i < count; i++, to += width) out[to] = bytes[at++];
      }
      columns.set(name, values);
    }
    return { header, columns };
  }

  // where each one's entries begin, given how many it has
  function starts(sizes, count = (i) => sizes[i]) {
    const begin = new Uint32Array(sizes.length + 1);
    for (let i = 0; i < sizes.length; i++) begin[i + 1] = begin[i] + count(i);
    return begin;
  }

  const exact = (value, digits) => (Number.isFinite(value) ? Number(value.toPrecision(digits)) : null);
  const folded = (text) => text.normalize("NFC").toLowerCase();

  class Places {
    constructor({ header, columns }) {
      this.models = header.models;
      this.chapters = header.chapters;
      this.words = header.words;
      this.texts = header.texts;
      this.columns = columns;
      const place = (name) => columns.get(`place.${name}`);
      this.count = place("layer").length;
      this.firstNumber = starts(place("numbers"));
      this.firstShown = starts(place("shown"));
      this.sides = Object.fromEntries(SIDES.map((side) => [side, this.lists(side)]));
      this.at = new Map();
      for (let i = 0; i < this.count; i++) {
        const key = this.key(place("layer")[i], place("head")[i]);
        if (!this.at.has(key)) this.at.set(key, []);
        this.at.get(key).push(i);
      }
      const layers = new Set(place("layer"));
      this.layers = [...layers].sort((a, b) => a - b);
      this.heads = [...this.at.keys()].filter((key) => key.includes("/")).map((key) => key.split("/").map(Number)).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    }

    // one model's lists: which list a place has (-1: none), where its words and its numbers begin
    lists(side) {
      const get = (name) => this.columns.get(`${side}.${name}`);
      const size = get("size"), number = new Int32Array(size.length).fill(-1), sizes = [];
      size.forEach((entries, i) => { if (entries >= 0) { number[i] = sizes.length; sizes.push(entries); } });
      const width = get("width"), numbers = new Map();
      for (const name of this.columns.keys()) {
        if (!name.startsWith(`${side}.has.`)) continue;
        const heading = name.slice(side.length + 5), has = this.columns.get(name);
        numbers.set(heading, { has, values: get(`column.${heading}`), begin: starts(has, (i) => (has[i] ? sizes[i] : 0)) });
      }
      return {
        number, sizes, width, numbers, word: get("word"), alone: get("alone"), label: get("label"), total: get("total"),
        firstEntry: starts(sizes), firstWord: starts(sizes, (i) => sizes[i] * width[i]),
      };
    }

    key(layer, head) { return head === null || head === NO_HEAD ? String(layer) : `${layer}/${head}`; }

    // what is known of a head, or of a layer (head null): places in the order of the page
    of(layer, head) { return (this.at.get(this.key(layer, head)) ?? []).map((i) => this.place(i)); }

    // where a place is, and its headings
    heading(i) {
      const get = (name) => this.columns.get(`place.${name}`)[i];
      const head = get("head");
      return { layer: get("layer"), head: head === NO_HEAD ? null : head, what: this.texts[get("what")], part: this.texts[get("part")] };
    }

    place(i) {
      const get = (name) => this.columns.get(`place.${name}`)[i];
      const numbers = [];
      for (let line = this.firstNumber[i]; line < this.firstNumber[i + 1]; line++) {
        const of = (name) => this.columns.get(`number.${name}`)[line];
        const fields = FIELDS.map((name) => [name, exact(of(name), 5)]);
        numbers.push({ name: this.texts[of("name")], unit: this.texts[of("unit")], ...Object.fromEntries(fields) });
      }
      const ids = this.columns.get("shown.prompt").subarray(this.firstShown[i], this.firstShown[i + 1]);
      return {
        shownOn: [...ids].map((text) => this.texts[text]),
        chapter: this.chapters[get("chapter")], ...this.heading(i), text: this.texts[get("text")], numbers,
        base: this.list("base", i), tuned: this.list("tuned", i),
      };
    }

    // some entries of one model's list at a place
    entries(side, i, chosen) { return chosen.map((entry) => this.entry(side, this.sides[side].number[i], entry)); }

    list(side, i) {
      const lists = this.sides[side], number = lists.number[i];
      if (number < 0) return null;
      const entries = [];
      for (let entry = 0; entry < lists.sizes[number]; entry++) entries.push(this.entry(side, number, entry));
      return { entries, total: lists.total[number], label: this.texts[lists.label[number]] };
    }

    entry(side, number, entry) {
      const lists = this.sides[side], width = lists.width[number];
      const first = lists.firstWord[number] + entry * width;
      const words = [...lists.word.subarray(first, first + width)].map((word) => this.words[word]);
      const numbers = {};
      for (const [heading, { has, values, begin }] of lists.numbers) {
        if (has[number]) numbers[heading] = exact(values[begin[number] + entry], 3);
      }
      return { words, numbers, only: lists.alone[lists.firstEntry[number] + entry] === 1 };
    }

    // whether any list holds only the first of more, and how many entries the longest of these has
    listed() {
      const cut = SIDES.flatMap((side) => this.sides[side].sizes.filter((size, list) => size < this.sides[side].total[list]));
      return { cut: cut.length > 0, most: cut.reduce((most, size) => Math.max(most, size), 0) };
    }

    // every place that holds a word with this text in it, whatever the case: [{place, exact, base, tuned}], the two by
    // entry; and the words, the most frequent first
    search(text) {
      const wanted = folded(text.trim());
      const found = new Uint8Array(this.words.length), counts = new Map();
      if (wanted) {
        this.folded ??= this.words.map(folded);
        this.folded.forEach((word, i) => { if (word.includes(wanted)) found[i] = word === wanted ? 2 : 1; });
      }
      const hits = new Map();
      for (const side of wanted ? SIDES : []) {
        const { number, sizes, width, word, firstWord } = this.sides[side];
        for (let i = 0; i < this.count; i++) {
          const list = number[i];
          if (list < 0) continue;
          let last = -1;
          for (let at = firstWord[list]; at < firstWord[list + 1]; at++) {
            const level = found[word[at]];
            if (!level) continue;
            counts.set(word[at], (counts.get(word[at]) ?? 0) + 1);
            if (!hits.has(i)) hits.set(i, { place: i, exact: false, base: [], tuned: [] });
            const hit = hits.get(i), entry = Math.floor((at - firstWord[list]) / width[list]);
            hit.exact ||= level === 2;
            if (entry !== last) hit[side].push(entry);
            last = entry;
          }
        }
      }
      const size = (hit) => hit.base.length + hit.tuned.length;
      const order = (a, b) => b.exact - a.exact || size(b) - size(a) || a.place - b.place;
      const words = [...counts].sort((a, b) => found[b[0]] - found[a[0]] || b[1] - a[1]);
      return { hits: [...hits.values()].sort(order), words: words.map(([word, count]) => ({ word: this.words[word], count, exact: found[word] === 2 })) };
    }
  }

  let opened = null;
  itlens.places = () => (opened ??= itlens.bytes(document.getElementById("itlens-places")).then(read).then((block) => new Places(block)));
})();
