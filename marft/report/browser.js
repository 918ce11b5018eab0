// The list of episodes: find, order, choose. Only the rows in sight are in the page.
"use strict";

(() => {
  const holder = document.getElementById("index");
  const ready = () => { document.documentElement.dataset.ready = "yes"; };
  if (!holder) return ready();
  const { element, plain, badge } = marft;
  const form = document.getElementById("filters"), list = document.getElementById("list"), rows = document.getElementById("rows");
  const found = document.getElementById("found"), detail = document.getElementById("episode"), browser = document.getElementById("browser");
  const HEIGHT = 56;
  let data = null, order = [], chosen = -1, matches = null, searched = 1, stop = null, asked = "";

  const name = (episode) => `${data.runs[data.columns.run[episode]].name}/${data.columns.id[episode]}`;
  const link = (episode) => `#episode=${encodeURIComponent(name(episode))}`;

  // Filters and order

  const orders = {
    played: () => 0,
    newest: (a, b) => data.columns.update[b] - data.columns.update[a],
    best: (a, b) => data.columns.score[b] - data.columns.score[a],
    worst: (a, b) => data.columns.score[a] - data.columns.score[b],
    invalid: (a, b) => data.columns.invalid[b] - data.columns.invalid[a],
  };

  function choose() {
    const wish = Object.fromEntries(new FormData(form));
    const c = data.columns, number = (text, none) => (text === "" || Number.isNaN(Number(text)) ? none : Number(text));
    const low = number(wish.low, -Infinity), high = number(wish.high, Infinity);
    const first = number(wish.first, -Infinity), last = number(wish.last, Infinity);
    const agent = data.agents.indexOf(wish.agent), failed = data.statuses.indexOf("failed");
    const teams = data.teams.map((team) => wish.agent === "" || team.includes(agent));
    const run = number(wish.run, -1), game = number(wish.game, -1);
    order = [];
    for (let one = 0; one < c.run.length; one++) {
      if (c.score[one] < low || c.score[one] > high || c.update[one] < first || c.update[one] > last) continue;
      if ((run >= 0 && c.run[one] !== run) || (game >= 0 && c.game[one] !== game) || !teams[c.team[one]]) continue;
      if (wish.flag === "failed" ? c.status[one] !== failed : wish.flag !== "" && !c[wish.flag][one]) continue;
      if (matches && !matches[one]) continue;
      order.push(one);
    }
    if (wish.sort !== "played") order.sort((a, b) => orders[wish.sort](a, b) || a - b);
    const part = searched < 1 ? `; ${Math.floor(searched * 100)} % of the texts searched` : "";
    found.textContent = `${order.length.toLocaleString("en")} of ${c.run.length.toLocaleString("en")} episodes match${part}.`;
    rows.style.height = `${order.length * HEIGHT}px`;
    draw();
  }

  // again: the words are the same, and the episodes are others.
  async function search(again) {
    const words = form.elements.text.value.trim().toLowerCase();
    if (words === asked && !again) return;
    asked = words;
    if (stop) stop.abort();
    if (!words) { matches = null; searched = 1; choose(); return; }
    const c = data.columns, mine = stop = new AbortController();
    const agents = data.teams.map((team) => team.some((one) => data.agents[one].toLowerCase().includes(words)));
    const hits = matches = new Uint8Array(c.run.length);
    for (let one = 0; one < hits.length; one++) {
      hits[one] = c.id[one].toLowerCase().includes(words) || agents[c.team[one]] || c.glance[one].toLowerCase().includes(words) ? 1 : 0;
    }
    searched = 0;
    if (!again) list.scrollTop = 0;
    choose();
    const progress = (share) => { if (!mine.signal.aborted) { searched = share; choose(); } };
    try {
      await marft.search(words, (one) => { hits[one] = 1; }, progress, mine.signal);
    } catch (error) {
      found.textContent += ` The search broke off: ${error.message}`;
    }
  }

  // The list

  function rowOf(place) {
    const one = order[place], c = data.columns, run = data.runs[c.run[one]];
    const made = element("div", "row",
      element("div", "", element("span", `run c${run.hue % 8}`, run.name), element("code", "", c.id[one]), element("b", "", plain(c.score[one], 2))),
      element("div", "", element("span", "glance", c.glance[one]),
        data.statuses[c.status[one]] === "done" ? "" : badge(data.statuses[c.status[one]], true),
        c.invalid[one] ? badge(`${c.invalid[one]} unreadable`, true) : "",
        c.cut[one] ? badge(`${c.cut[one]} cut`, false) : "",
        c.spoiled[one] ? badge("right → wrong", true) : "",
        c.mended[one] ? badge("wrong → right", false) : "",
        c.tokens[one] ? element("span", "badge quiet", "tokens") : ""));
    made.querySelector("b").title = "return, the mean of the learning seats";
    made.id = `row-${one}`;
    made.style.top = `${place * HEIGHT}px`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(one === chosen));
    made.setAttribute("aria-posinset", place + 1);
    made.setAttribute("aria-setsize", order.length);
    made.addEventListener("click", () => pick(one));
    return made;
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 4);
    const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + 4);
    rows.replaceChildren(...Array.from({ length: Math.max(0, last - first) }, (_, place) => rowOf(first + place)));
    if (document.getElementById(`row-${chosen}`)) list.setAttribute("aria-activedescendant", `row-${chosen}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function reveal(place) {
    if (place * HEIGHT < list.scrollTop) list.scrollTop = place * HEIGHT;
    else if ((place + 1) * HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = (place + 1) * HEIGHT - list.clientHeight;
    draw();
  }

  function move(by) {
    if (!order.length) return;
    const place = order.indexOf(chosen);
    const next = Math.max(0, Math.min(order.length - 1, place < 0 ? 0 : place + by));
    pick(order[next]);
    reveal(next);
  }

  // The chosen episode

  async function pick(one, quiet) {
    chosen = one;
    draw();
    if (!quiet) history.replaceState(null, "", link(one));
    let episode = null, missing = "Only listed: its text is not in this file, but on disk.";
    try {
      episode = await marft.load(one);
    } catch (error) {
      missing = `It cannot be shown: ${error.message}`;
    }
    if (chosen !== one) return;
    const run = data.runs[data.columns.run[one]];
    const button = (words, by, label) => {
      const made = element("button", "small", words);
      made.type = "button";
      made.setAttribute("aria-label", label);
      made.addEventListener("click", () => move(by));
      return made;
    };
    const anchor = element("a", "", "link");
    anchor.href = link(one);
    anchor.title = "The address of this page with this episode open";
    const head = element("header", "", element("h3", "", element("span", `run c${run.hue % 8}`, run.name), " ", element("code", "", data.columns.id[one])),
      element("div", "tools", anchor, button("↑", -1, "previous episode"), button("↓", 1, "next episode")));
    const body = episode ? marft.draw(episode, run.name) : element("p", "empty", missing);
    detail.replaceChildren(head, body);
    detail.scrollTop = 0;
    detail.dataset.episode = name(one);
  }

  function follow(scroll) {
    const wanted = location.hash.startsWith("#episode=") ? decodeURIComponent(location.hash.slice(9)) : "";
    if (!wanted) return false;
    const one = data.columns.run.findIndex((_, place) => name(place) === wanted);
    if (one < 0) { found.textContent += ` The page has no episode ${wanted}.`; return false; }
    pick(one, true);
    const place = order.indexOf(one);
    if (place >= 0) reveal(place);
    if (scroll) document.getElementById("episodes").scrollIntoView();
    return true;
  }

  // Keyboard

  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter") detail.focus();
    if (by === undefined) return;
    event.preventDefault();
    move(by);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      form.elements.text.focus();
    } else if (event.key === "Escape" && event.target === form.elements.text) {
      form.elements.text.value = "";
      search();
      list.focus();
    } else if (event.key === "Escape" && detail.contains(event.target)) list.focus();
    else if (event.key === "ArrowDown" && event.target === form.elements.text) { event.preventDefault(); list.focus(); }
  });

  // What the filters offer; a choice that is still there stays.
  function offer(field, pairs) {
    const select = form.elements[field], before = select.value;
    select.replaceChildren(select.options[0], ...pairs.map(([value, label]) => new Option(label, value)));
    select.value = pairs.some(([value]) => String(value) === before) ? before : "";
  }

  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    if (event.target !== form.elements.text) { list.scrollTop = 0; choose(); } else waiting = setTimeout(search, 200);
  });
  form.addEventListener("reset", () => setTimeout(() => { search(); list.scrollTop = 0; choose(); }));
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", () => requestAnimationFrame(draw));
  addEventListener("hashchange", () => follow(true));

  // Show these episodes; those that were shown before keep their place and choice.
  marft.show = async (base64) => {
    const before = chosen >= 0 ? name(chosen) : "";
    data = await marft.open(base64);
    const some = data.columns.run.length > 0;
    browser.hidden = form.hidden = !some;
    document.getElementById("no-episodes").hidden = some;
    if (!some) return ready();
    offer("run", data.runs.map((run, number) => [number, run.name]));
    offer("agent", [...data.agents].sort().map((agent) => [agent, agent]));
    offer("game", data.games.map((game, number) => [number, game]));
    for (const [field, many] of [["run", data.runs], ["agent", data.agents], ["game", data.games]]) form.elements[field].parentElement.hidden = many.length < 2;
    chosen = before ? data.columns.run.findIndex((_, place) => name(place) === before) : -1;
    matches = null;
    if (form.elements.text.value.trim()) search(true); else choose();
    if (!before && !follow(true) && order.length) pick(order[0], true);
    ready();
  };
  marft.show(holder.textContent.trim());
})();
