// The transcripts: pick, order and show episodes. All data is set as text, never as markup.
"use strict";

(() => {
  const holder = document.getElementById("data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const PAGE = 30;
  const form = document.getElementById("filters");
  const list = document.getElementById("episodes");
  const more = document.getElementById("more");
  const found = document.getElementById("found");
  const text = (number) => data.texts[number];
  const plain = (value) => (value === null || value === undefined ? "–" : String(Math.round(value * 1000) / 1000).replace("-", "−"));

  function element(kind, style, ...children) {
    const made = document.createElement(kind);
    if (style) made.className = style;
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }
  const badge = (words, bad) => element("span", bad ? "badge bad" : "badge", words);
  const each = (episode, values) => episode.seats.map((seat, number) => `${seat} ${plain(values[number])}`).join(" · ");

  // One letter per move, where a game's actions are that short.
  function moves(episode) {
    const rows = episode.seats.map((seat, number) => {
      const actions = episode.turns.filter((turn) => turn[0] === number && turn[4] !== null).map((turn) => text(turn[4]));
      return actions.length && actions.every((action) => action.length <= 2) ? `${seat} ${actions.join("")}` : null;
    });
    return rows.includes(null) ? "" : rows.join("  ");
  }

  function heard(messages) {
    if (!messages.length) return "";
    if (messages.length === 1 && text(messages[0][1]).length <= 100) return element("div", "heard", `saw: ${text(messages[0][1])}`);
    const body = messages.map(([role, number]) => element("pre", "", `${role}: ${text(number)}`));
    const first = text(messages[0][1]).replace(/\s+/g, " ");
    return element("details", "heard", element("summary", "", `saw: ${first.slice(0, 140)}`), ...body);
  }

  function turn(episode, [seat, , messages, answer, action, invalid, truncated, version]) {
    const head = element("header", "",
      element("b", "", episode.seats[seat] || "?"),
      element("span", "", `${episode.team[seat] || "?"}${version >= 0 ? `, version ${version}` : ""}`),
      action === null ? "" : element("span", "", `action: ${text(action)}`),
      invalid ? badge("unreadable", true) : "",
      truncated ? badge("cut short", false) : "");
    return element("article", `turn c${Math.max(0, seat) % 8}`, head, heard(messages), element("pre", "", text(answer) || "(empty)"));
  }

  function steps(episode) {
    const last = Math.max(episode.rewards.length - 1, ...episode.turns.map((one) => one[1]));
    const made = [];
    for (let step = 0; step <= last; step++) {
      const turns = episode.turns.filter((one) => one[1] === step);
      const rewards = episode.rewards[step] || [];
      if (!turns.length && rewards.every((value) => !value)) continue;
      const title = `Step ${step}` + (rewards.length ? ` — reward: ${each(episode, rewards)}` : "");
      made.push(element("div", "step", element("h4", "", title),
        element("div", "turns", ...turns.map((one) => turn(episode, one)))));
    }
    return made;
  }

  function inside(episode) {
    const facts = element("dl", "");
    const fact = (label, value) => {
      if (value !== "") facts.append(element("div", "", element("dt", "", label), element("dd", "", value)));
    };
    fact("Episode", `${episode.id}, in ${data.runs[episode.run].name}: episodes/${episode.file}`);
    fact("Team", episode.seats.map((seat, number) => `${seat}: ${episode.team[number]}`).join(", "));
    fact("Game, seed", `${episode.game}, ${episode.seed}`);
    fact("Return", each(episode, episode.returns));
    for (const [name, values] of Object.entries(episode.terms)) fact(`Reward ${name}`, each(episode, values));
    fact("Facts", episode.facts === null ? "" : text(episode.facts));
    fact("Cause", episode.cause || "");
    return element("div", "inside", facts, ...steps(episode));
  }

  function entry(episode) {
    const unreadable = episode.turns.filter((one) => one[5]).length;
    const cut = episode.turns.filter((one) => one[6]).length;
    const summary = element("summary", "",
      element("span", `run c${episode.run % 8}`, data.runs[episode.run].name),
      element("code", "", episode.id),
      element("span", "", `return: ${each(episode, episode.returns)}`),
      element("span", "moves", moves(episode)),
      episode.status === "done" ? "" : badge(episode.status, true),
      unreadable ? badge(`${unreadable} unreadable`, true) : "",
      cut ? badge(`${cut} cut short`, false) : "");
    const made = element("details", "episode", summary);
    made.addEventListener("toggle", () => { if (made.open && made.childElementCount === 1) made.append(inside(episode)); });
    return made;
  }

  const haystacks = new Map();
  function haystack(episode) {
    if (!haystacks.has(episode)) {
      const numbers = new Set(episode.turns.flatMap((one) => [one[3], ...(one[4] === null ? [] : [one[4]]), ...one[2].map((pair) => pair[1])]));
      const words = [episode.id, episode.seed, episode.cause || "", ...episode.team, ...[...numbers].map(text)];
      haystacks.set(episode, words.join("\n").toLowerCase());
    }
    return haystacks.get(episode);
  }

  const orders = {
    best: (a, b) => b.score - a.score || a.run - b.run || (a.id < b.id ? -1 : 1),
    worst: (a, b) => a.score - b.score || a.run - b.run || (a.id < b.id ? -1 : 1),
    id: (a, b) => a.run - b.run || (a.id < b.id ? -1 : 1),
  };
  let chosen = [], shown = 0;

  function page() {
    list.append(...chosen.slice(shown, shown + PAGE).map(entry));
    shown = Math.min(chosen.length, shown + PAGE);
    more.hidden = shown >= chosen.length;
    found.textContent = `${chosen.length} of ${data.episodes.length} episodes match` + (more.hidden ? "." : `; the first ${shown} are listed.`);
  }

  function choose() {
    const wish = Object.fromEntries(new FormData(form));
    const words = wish.text.trim().toLowerCase();
    const flag = { invalid: 5, truncated: 6 }[wish.flag];
    chosen = data.episodes.filter((episode) =>
      (wish.run === "" || episode.run === Number(wish.run)) &&
      (wish.update === "" || episode.update === Number(wish.update)) &&
      (wish.status === "" || episode.status === wish.status) &&
      (flag === undefined || episode.turns.some((one) => one[flag])) &&
      (words === "" || haystack(episode).includes(words)));
    chosen.sort(orders[wish.sort]);
    shown = 0;
    list.replaceChildren();
    page();
  }

  const offer = (name, pairs) => form.elements[name].append(...pairs.map(([value, label]) => new Option(label, value)));
  offer("run", data.runs.map((run, number) => [number, run.name]));
  offer("update", [...new Set(data.episodes.map((episode) => episode.update))].sort((a, b) => a - b).map((update) => [update, update]));
  offer("status", [...new Set(data.episodes.map((episode) => episode.status))].sort().map((status) => [status, status]));
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", page);
  form.hidden = false;
  choose();
})();
