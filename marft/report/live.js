// A page that is served asks its server every few seconds whether the runs have come farther, and takes over what has
// changed. What the reader has opened, chosen, typed or scrolled to stays.
"use strict";

(() => {
  const EVERY = 2000;
  const PARTS = ["summary", "curves", "conditional", "evaluation", "cross-play", "time"];
  const state = document.getElementById("live");
  let seen = state.dataset.state;

  async function get(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.text();
  }
  marft.ask = (key) => get(`pieces/${key}`);

  // The first part in sight, and how far down it stands.
  const anchor = () => {
    const part = [...document.querySelectorAll("main > section")].find((one) => one.getBoundingClientRect().bottom > 0);
    return part ? [part.id, part.getBoundingClientRect().top] : null;
  };

  function take(fresh) {
    const before = anchor();
    const open = [...document.querySelectorAll("main details.more[open]")].map((one) => one.closest("section").id);
    const focused = document.activeElement && document.activeElement.getAttribute("aria-label");
    const main = document.getElementById("main");
    let last = null;
    for (const id of PARTS) {
      const now = document.getElementById(id), next = fresh.getElementById(id);
      if (now && next) now.replaceWith(document.adoptNode(next));
      else if (now) now.remove();
      else if (next) { if (last) last.after(document.adoptNode(next)); else main.prepend(document.adoptNode(next)); }
      last = document.getElementById(id) || last;
    }
    document.querySelector("nav").replaceChildren(...document.adoptNode(fresh.querySelector("nav")).childNodes);
    document.getElementById("how-many").textContent = fresh.getElementById("how-many").textContent;
    for (const id of open) document.querySelectorAll(`#${id} details.more`).forEach((one) => { one.open = true; });
    marft.follow();
    if (before && document.getElementById(before[0])) scrollBy({ top: document.getElementById(before[0]).getBoundingClientRect().top - before[1], behavior: "instant" });
    if (focused && document.activeElement === document.body) {
      const same = [...document.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label").split(".")[0] === focused.split(".")[0]);
      if (same) same.focus({ preventScroll: true });
    }
    marft.show(fresh.getElementById("index").textContent.trim());
  }

  async function look() {
    try {
      const now = await get("state");
      if (now !== seen) {
        const fresh = new DOMParser().parseFromString(await get("."), "text/html");
        take(fresh);
        seen = fresh.getElementById("live").dataset.state;
      }
      state.textContent = "live";
      state.className = "";
    } catch (error) {
      state.textContent = error instanceof TypeError ? "the server has stopped" : `not updated: ${error.message}`.slice(0, 300);
      state.className = "stale";
    }
    setTimeout(look, EVERY);
  }
  look();
})();
