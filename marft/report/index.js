// The episodes' data: an index that is read at once, pieces that are decoded when asked for. Draws nothing.
"use strict";

Object.assign(marft, (() => {
  const KEPT = 8;
  const BREATH = 24;
  const decoded = new Map();
  let data = null, starts = [];

  async function unpack(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const parsed = () => document.readyState !== "loading" ? null :
    new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));

  // Where a piece stands in the file; a page that is served gets it from its server (live.js).
  async function packed(key) {
    if (marft.ask) return marft.ask(key);
    if (!document.getElementById(`piece-${key}`)) await parsed();
    return document.getElementById(`piece-${key}`).textContent;
  }

  function piece(number) {
    const key = data.pieces[number][0];
    const known = decoded.get(key) || packed(key).then(unpack);
    known.catch(() => decoded.delete(key));
    decoded.delete(key);
    decoded.set(key, known);
    if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
    return known;
  }

  // The index, as base64 text of the page; resolves to what it holds.
  async function open(base64) {
    data = base64 ? await unpack(base64) : { runs: [], games: [], agents: [], teams: [], statuses: [], pieces: [], columns: { run: [] } };
    starts = [];
    let count = 0;
    for (const [, size] of data.pieces) { starts.push(count); count += size; }
    return data;
  }

  function pieceOf(episode) {
    let low = 0, high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= episode) low = middle; else high = middle - 1;
    }
    return low;
  }

  // The whole episode with the texts its numbers stand for; null where the page lists it and no more.
  async function load(episode) {
    const number = pieceOf(episode);
    if (!data.pieces[number][2]) return null;
    const { texts, episodes } = await piece(number);
    return { ...episodes[episode - starts[number]], texts };
  }

  // Calls found(episode) for all whose texts hold the words (lower case), piece by piece, and progress(share) between
  // them; gives way to the page every few milliseconds. Stops when the signal says so.
  async function search(words, found, progress, signal) {
    let rested = performance.now();
    for (let number = 0; number < data.pieces.length; number++) {
      if (data.pieces[number][2]) {
        const { texts, episodes } = await piece(number);
        if (signal.aborted) return;
        const hits = new Set();
        texts.forEach((text, place) => { if (text.toLowerCase().includes(words)) hits.add(place); });
        const hit = (place) => place !== null && hits.has(place);
        episodes.forEach((one, place) => {
          if (one.seed === words || (one.cause || "").toLowerCase().includes(words) || hit(one.facts) ||
            one.turns.some((turn) => hit(turn[3]) || hit(turn[4]) || turn[2].some((pair) => hit(pair[1])))) found(starts[number] + place);
        });
      }
      if (performance.now() - rested > BREATH) {
        progress((number + 1) / data.pieces.length);
        await new Promise((done) => setTimeout(done));
        if (signal.aborted) return;
        rested = performance.now();
      }
    }
    progress(1);
  }

  // An element with children; all data becomes text, never markup.
  function element(kind, style, ...children) {
    const made = document.createElement(kind);
    if (style) made.className = style;
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }
  const plain = (value, digits = 3) => (value === null || value === undefined ? "–" :
    String(Math.round(value * 10 ** digits) / 10 ** digits).replace("-", "−"));
  const badge = (words, bad) => element("span", bad ? "badge bad" : "badge", words);

  return { open, load, search, element, plain, badge };
})());
