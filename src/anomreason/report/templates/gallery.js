"use strict";
// The gallery: filters, sorts and shows a few rows of cards at a time, so that 20,000 images open at once.
// Texts are only ever set through textContent and properties, never as HTML.
(() => {
  const STEP = 120;
  const rows = JSON.parse(document.getElementById("rows").textContent);
  const byId = (id) => document.getElementById(id);
  const tools = byId("tools"), find = byId("find"), sort = byId("sort"), cards = byId("cards");
  const template = byId("card").content.firstElementChild;
  const memory = "anomreason:" + location.pathname;
  const byName = new Intl.Collator(undefined, { numeric: true });
  let names = null;
  let chosen = [];
  let shown = 0;

  const bandOf = (severity) => Math.min(Math.floor(severity / 20), 4);
  const plural = (n) => n.toLocaleString("en") + (n === 1 ? " anomaly" : " anomalies");

  function card(row) {
    const item = template.cloneNode(true);
    const part = (name) => item.querySelector("." + name);
    const found = row.status === "with anomalies";
    item.classList.add(found ? "band-" + bandOf(row.worst) : row.status === "failed" ? "failed" : "none");
    item.firstElementChild.href = "report/pages/" + row.page;
    if (row.preview) item.querySelector("img").src = "report/thumbs/" + row.preview;
    else part("frame").textContent = "no preview";
    part("file").textContent = row.image;
    part("file").title = row.image;
    part("first").textContent = row.title;
    if (found) {
      part("score").textContent = "severity " + row.worst;
      part("score").title = "of the worst; 0 = completely implausible, 100 = fully realistic";
      part("count").textContent = plural(row.count);
    }
    return item;
  }

  function showMore(count) {
    const fragment = document.createDocumentFragment();
    const end = Math.min(shown + count, chosen.length);
    for (; shown < end; shown++) fragment.append(card(chosen[shown]));
    cards.append(fragment);
    // Watched anew, it tells where it is: it tells no more as long as it stays in the window.
    more.disconnect();
    more.observe(byId("more"));
  }

  function state() {
    const form = new FormData(tools);
    return { find: find.value.trim(), status: form.get("status"), bands: form.getAll("band"), sort: sort.value };
  }

  function matches(row, words, want) {
    if (want.status !== "all" && row.status !== want.status) return false;
    if (want.bands.length && (row.worst === null || !want.bands.includes(String(bandOf(row.worst))))) return false;
    if (!words.length) return true;
    row.hay ??= (row.image + "\n" + row.title + "\n" + row.text).toLowerCase();
    return words.every((word) => row.hay.includes(word));
  }

  function update(atLeast = STEP) {
    const want = state();
    const words = want.find.toLowerCase().split(/\s+/).filter(Boolean);
    if (want.sort === "name") names ??= rows.slice().sort((a, b) => byName.compare(a.image, b.image));
    chosen = (want.sort === "name" ? names : rows).filter((row) => matches(row, words, want));
    shown = 0;
    cards.replaceChildren();
    showMore(atLeast);
    byId("count").textContent = chosen.length.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " shown";
    byId("empty").hidden = chosen.length > 0;
    byId("why").textContent = rows.length ? "No image matches." : "This run has no results yet.";
    byId("clear").hidden = !rows.length;
    const hash = new URLSearchParams();
    if (want.find) hash.set("find", want.find);
    if (want.status !== "all") hash.set("status", want.status);
    if (want.bands.length) hash.set("bands", want.bands.join("."));
    if (want.sort !== "worst") hash.set("sort", want.sort);
    if (hash.toString() !== location.hash.slice(1)) history.replaceState(null, "", "#" + hash);
  }

  function restore() {
    const hash = new URLSearchParams(location.hash.slice(1));
    find.value = hash.get("find") ?? "";
    sort.value = hash.get("sort") === "name" ? "name" : "worst";
    const bands = (hash.get("bands") ?? "").split(".");
    for (const box of tools.elements.band) box.checked = bands.includes(box.value);
    for (const radio of tools.elements.status) radio.checked = radio.value === (hash.get("status") ?? "all");
  }

  // Storage may be blocked; the gallery then forgets where it was, and nothing else is lost.
  function remember() {
    try {
      const view = { hash: location.hash, y: scrollY, shown, pages: chosen.map((row) => row.page) };
      sessionStorage.setItem(memory, JSON.stringify(view));
    } catch {}
  }

  function remembered() {
    try {
      const view = JSON.parse(sessionStorage.getItem(memory));
      return view && view.hash === location.hash ? view : null;
    } catch {
      return null;
    }
  }

  const more = new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting) && shown < chosen.length) showMore(STEP);
  }, { rootMargin: "1500px" });
  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  tools.addEventListener("change", (event) => {
    if (event.target !== find) update();
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    tools.reset();
    update();
  });
  addEventListener("hashchange", () => {
    restore();
    update();
  });
  addEventListener("pagehide", remember);
  restore();
  const view = remembered();
  update(view ? Math.max(view.shown, STEP) : STEP);
  if (view) scrollTo(0, view.y);
})();
