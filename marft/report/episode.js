// One episode: what each seat saw, said, did and earned; and its turns token by token.
"use strict";

(() => {
  const { element, plain, badge } = marft;
  const each = (episode, values) => episode.seats.map((seat, number) => `${seat} ${plain(values[number])}`).join(" · ");

  function heard(episode, messages) {
    if (!messages.length) return "";
    const text = (number) => episode.texts[number];
    if (messages.length === 1 && text(messages[0][1]).length <= 100) return element("div", "heard", `saw: ${text(messages[0][1])}`);
    const body = messages.map(([role, number]) => element("pre", "", `${role}: ${text(number)}`));
    const first = text(messages[0][1]).slice(0, 400).replace(/\s+/g, " ");
    return element("details", "heard", element("summary", "", `saw: ${first.slice(0, 140)}`), ...body);
  }

  function turn(episode, one, number) {
    const [seat, , messages, answer, action, invalid, truncated, version] = one;
    const head = element("header", "",
      element("b", "", episode.seats[seat] || "?"),
      element("span", "", `${episode.team[seat] || "?"}${version >= 0 ? `, version ${version}` : ""}`),
      action === null ? "" : element("span", "", `action: ${episode.texts[action]}`),
      invalid ? badge("unreadable", true) : "",
      truncated ? badge("cut short", false) : "");
    const made = element("article", `turn c${Math.max(0, seat) % 8}`, head, heard(episode, messages), element("pre", "", episode.texts[answer] || "(empty)"));
    const tokens = (episode.tokens || {})[number];
    if (tokens) {
      const button = element("button", "small", "Tokens");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      let view = null;
      button.addEventListener("click", () => {
        if (!view) made.append(view = tokenView(episode, tokens)); else view.hidden = !view.hidden;
        button.setAttribute("aria-expanded", String(!view.hidden));
      });
      head.append(button);
    }
    return made;
  }

  // Tokens

  const LIMITS = [1e-4, 1e-3, 1e-2, 1e-1];
  const signed = (value) => (value > 0 ? "+" : "") + (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : plain(value, 4)).replace("-", "−");
  const largest = (episode, name) => Math.max(1e-12, ...Object.values(episode.tokens).flatMap((one) => one[name].map(Math.abs)));
  const shades = {
    advantage: {
      title: "advantage",
      style: (tokens, place, episode) => { const part = Math.round((4 * tokens.advantage[place]) / largest(episode, "advantage")); return `v${part < 0 ? "m" : "p"}${Math.abs(part)}`; },
      legend: (episode) => [["vm4", `−${plain(largest(episode, "advantage"))}`], ["vp0", "0"], ["vp4", `+${plain(largest(episode, "advantage"))}: made likelier`]],
    },
    gap: {
      title: "log-prob gap",
      style: (tokens, place) => { const gap = tokens.gap[place]; return `v${gap < 0 ? "m" : "p"}${LIMITS.filter((limit) => Math.abs(gap) >= limit).length}`; },
      legend: () => [["vp0", "below 0.0001"], ["vm2", "trainer less sure, 0.001"], ["vm4", "0.1"], ["vp2", "trainer surer, 0.001"], ["vp4", "0.1"]],
    },
    probability: {
      title: "log-prob",
      style: (tokens, place) => `vp${Math.min(4, Math.floor(-tokens.engine[place]))}`,
      legend: () => [["vp0", "certain"], ["vp2", "−2"], ["vp4", "−4 and less"]],
    },
    mask: {
      title: "mask",
      style: () => "vp2",
      legend: () => [["vp2", "trained"]],
    },
  };

  function tokenView(episode, tokens) {
    const view = element("div", "tokens");
    const choice = element("select", "", ...Object.entries(shades).map(([value, shade]) => new Option(shade.title, value)));
    const label = element("label", "", "Colour by ", choice);
    const legend = element("ul", "legend");
    const said = tokens.said.map((number) => element("span", "token", shown(episode.texts[number])));
    const heardOnes = tokens.heard.map((number) => element("span", "token masked", shown(episode.texts[number])));
    const told = element("output", "told", `${tokens.said.length} of ${tokens.said.length + tokens.heard.length} tokens trained. Point at one, or use the arrow keys.`);
    const body = element("div", "strip",
      tokens.before ? element("i", "", `… ${tokens.before} earlier tokens `) : "", ...heardOnes, ...said,
      tokens.after ? element("i", "", ` … ${tokens.after} more tokens`) : "");
    body.tabIndex = 0;
    body.setAttribute("role", "group");
    body.setAttribute("aria-label", "Tokens of this turn; arrow keys go through them");
    told.setAttribute("aria-live", "polite");
    const all = [...heardOnes, ...said];
    let here = -1;
    const tell = (place) => {
      if (all[here]) all[here].classList.remove("here");
      here = Math.max(0, Math.min(all.length - 1, place));
      all[here].classList.add("here");
      all[here].scrollIntoView({ block: "nearest" });
      const own = here - heardOnes.length;
      const word = `“${all[here].textContent}”`;
      told.textContent = own < 0 ? `${word}: heard, not trained` :
        `${word}: advantage ${signed(tokens.advantage[own])} · log-prob ${signed(tokens.engine[own])} where it was sampled, gap of the trainer ${signed(tokens.gap[own])} · trained`;
    };
    body.addEventListener("pointerover", (event) => { const place = all.indexOf(event.target); if (place >= 0) tell(place); });
    body.addEventListener("click", (event) => { const place = all.indexOf(event.target); if (place >= 0) tell(place); });
    body.addEventListener("keydown", (event) => {
      const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      tell(next);
    });
    const paint = () => {
      const shade = shades[choice.value];
      said.forEach((one, place) => { one.className = `token ${shade.style(tokens, place, episode)}${place + heardOnes.length === here ? " here" : ""}`; });
      legend.replaceChildren(...[...shade.legend(episode), ["masked", "heard, not trained"]].map(([style, words]) =>
        element("li", "", element("span", `token ${style}`, "\u00a0"), element("span", "", words))));
    };
    choice.addEventListener("input", paint);
    paint();
    view.append(label, legend, told, body);
    return view;
  }
  const shown = (text) => text.replace(/\n/g, "⏎\n") || "∅";

  function steps(episode) {
    const numbered = new Map();
    episode.turns.forEach((one, number) => {
      if (!numbered.has(one[1])) numbered.set(one[1], []);
      numbered.get(one[1]).push([one, number]);
    });
    const made = [];
    const last = Math.max(episode.rewards.length - 1, ...numbered.keys());
    for (let step = 0; step <= last; step++) {
      const turns = numbered.get(step) || [], rewards = episode.rewards[step] || [];
      if (!turns.length && rewards.every((value) => !value)) continue;
      const title = `Step ${step}` + (rewards.some((value) => value !== null) ? ` — reward: ${each(episode, rewards)}` : "");
      made.push(element("div", "step", element("h4", "", title),
        element("div", "turns", ...turns.map(([one, number]) => turn(episode, one, number)))));
    }
    return made;
  }

  // The whole of an episode; run: its name.
  marft.draw = (episode, run) => {
    const facts = element("dl", "");
    const fact = (label, value) => {
      if (value !== "") facts.append(element("div", "", element("dt", "", label), element("dd", "", value)));
    };
    fact("File", `${run}: episodes/${episode.file}`);
    fact("Team", episode.seats.map((seat, number) => `${seat}: ${episode.team[number]}`).join(", "));
    fact("Game, seed", `${episode.game}, ${episode.seed}`);
    fact("Return", each(episode, episode.returns));
    for (const [name, values] of Object.entries(episode.terms)) fact(`Reward ${name}`, each(episode, values));
    fact("Facts", episode.facts === null ? "" : episode.texts[episode.facts]);
    fact("Cause", episode.cause || "");
    return element("div", "inside", facts, ...steps(episode));
  };
})();
