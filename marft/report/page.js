// The theme button, and reading values off the curves. Knows nothing of the data.
"use strict";

globalThis.marft = {};

(() => {
  const button = document.getElementById("theme");
  const wishes = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (wishes.matches ? "dark" : "light")) === "dark";
  const name = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${dark() ? "light" : "dark"} theme`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  wishes.addEventListener("change", name);
  name();
})();

(() => {
  const NS = "http://www.w3.org/2000/svg";

  // The points of a drawn path, in the drawing's own lengths.
  const points = (path) =>
    [...(path || "").matchAll(/[ML]([-\d.]+) ([-\d.]+)/g)].map((found) => [Number(found[1]), Number(found[2])]);

  const rounded = (value, range) => {
    if (range < 0.01) return value.toExponential(1);
    return value.toFixed(range <= 2 ? 3 : range <= 50 ? 2 : range <= 500 ? 1 : 0);
  };

  function follow(chart) {
    const [x0, x1, y0, y1, left, right, bottom, top, kind] =
      chart.dataset.scale.split(" ").map((part, place) => (place === 8 ? part : Number(part)));
    const outputs = [...chart.closest("figure").querySelectorAll("output")];
    let lines = null, places = [], cross = null, at = null, here = -1;

    const prepare = () => {
      lines = [...chart.querySelectorAll("path.line")].map((line) => [line.getAttribute("d"), line.dataset.low, line.dataset.high].map(points));
      places = [...new Set(lines.flatMap((line) => line[0].map((point) => point[0])))].sort((a, b) => a - b);
      cross = document.createElementNS(NS, "line");
      cross.setAttribute("class", "cross");
      at = document.createElementNS(NS, "text");
      at.setAttribute("class", "at");
      at.setAttribute("y", top + 10);
      chart.append(cross, at);
    };
    const value = (y) => {
      const part = (y - bottom) / (top - bottom);
      return kind === "log" ? (y0 * (y1 / y0) ** part).toExponential(1) : rounded(y0 + part * (y1 - y0), y1 - y0);
    };
    const show = (place) => {
      here = Math.max(0, Math.min(places.length - 1, place));
      const x = places[here];
      for (const [key, number] of [["x1", x], ["x2", x], ["y1", top], ["y2", bottom]]) cross.setAttribute(key, number);
      const side = x > (left + right) / 2;
      at.setAttribute("x", x + (side ? -5 : 5));
      at.setAttribute("text-anchor", side ? "end" : "start");
      at.textContent = `update ${Math.round(x0 + ((x - left) / (right - left)) * (x1 - x0))}`;
      lines.forEach((line, number) => {
        const [middle, low, high] = line.map((column) => column.find((point) => point[0] === x));
        outputs[number].textContent = !middle ? "–" : value(middle[1]) + (low && high ? ` (${value(low[1])} to ${value(high[1])})` : "");
      });
    };
    const nearest = (x) => {
      let best = 0;
      places.forEach((place, number) => { if (Math.abs(place - x) < Math.abs(places[best] - x)) best = number; });
      return best;
    };
    const leave = () => {
      if (!lines) return;
      cross.remove(); at.remove();
      lines = null; here = -1;
      for (const output of outputs) output.textContent = "";
    };
    chart.addEventListener("pointermove", (event) => {
      if (!lines) prepare();
      const box = chart.getBoundingClientRect();
      if (places.length) show(nearest(((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width));
    });
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", (event) => {
      const jump = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") leave();
      if (jump === undefined) return;
      event.preventDefault();
      if (!lines) prepare();
      if (places.length) show(here < 0 && jump > 0 && jump < Infinity ? 0 : here < 0 && jump < 0 ? places.length - 1 : here + jump);
    });
  }
  // Every chart that is not followed yet.
  marft.follow = () => document.querySelectorAll("svg.curves:not([data-followed])").forEach((chart) => {
    chart.dataset.followed = "";
    follow(chart);
  });
  marft.follow();
})();
