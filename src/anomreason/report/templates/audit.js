"use strict";
// The images of an audit, a few prompts at a time. What was found in the images of a prompt is loaded from a script
// beside the page when the prompt is shown. Texts are only ever set through textContent and properties, never as HTML.
(() => {
  const MARGIN = 2000; // pixels below the window that are filled ahead
  const byId = (id) => document.getElementById(id);
  const setup = JSON.parse(byId("setup").textContent);
  const tools = byId("tools"), list = byId("prompts"), find = byId("find"), large = byId("large");
  const [promptOf, columnOf, shotOf, foundOf] = ["prompt", "column", "shot", "found"].map((id) => byId(id).content.firstElementChild);
  const loading = new Map(); // number of a prompt -> promise of its images
  const loaded = new Map(); // number of a prompt -> its images: by generator, then seed
  const part = (element, selector) => element.querySelector(selector);
  const bandOf = (severity) => Math.min(Math.floor(severity / 20), 4);
  let rows = []; // what to show: numbers of prompts, or of generators
  let shown = 0, turn = 0, busy = false;

  self.anomreasonAudit = { prompt(number, images) { loaded.set(number, images); } };

  function load(number) {
    if (!loading.has(number)) {
      loading.set(number, new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = setup.folder + "/" + number + ".js";
        script.onload = script.onerror = () => {
          script.remove();
          if (!loaded.has(number)) byId("gone").hidden = false;
          resolve(loaded.get(number) ?? null);
        };
        document.head.append(script);
      }));
    }
    return loading.get(number);
  }

  function state() {
    const form = new FormData(tools);
    const assessor = document.querySelector("input[name=assessor]:checked");
    return {
      view: byId("view").value,
      sort: byId("sort").value,
      tag: byId("tag").value,
      seed: byId("seed").value,
      words: find.value.trim().toLowerCase().split(/\s+/).filter(Boolean),
      generators: form.getAll("generator").map(Number),
      assessor: assessor ? Number(assessor.value) : 0,
    };
  }

  function matches(number, want) {
    const [id, text, tags] = setup.prompts[number];
    if (want.tag !== "" && !tags.includes(want.tag)) return false;
    const hay = (id + "\n" + text).toLowerCase();
    return want.words.every((word) => hay.includes(word));
  }

  function update() {
    const want = state();
    turn++;
    const prompts = want.view === "prompts";
    for (const one of tools.querySelectorAll(".only-prompts")) one.hidden = !prompts;
    if (prompts) {
      const named = setup.prompts.findIndex((prompt) => prompt[0] === find.value.trim());
      rows = named >= 0 ? [named] : setup.prompts.map((_, number) => number).filter((number) => matches(number, want));
      const by = setup.apart[want.assessor];
      const key = { apart: (n) => -by[n][1], hard: (n) => -by[n][0], easy: (n) => by[n][0], order: (n) => n }[want.sort];
      rows.sort((a, b) => key(a) - key(b) || a - b);
      byId("count").textContent = rows.length.toLocaleString("en") + " of " + setup.prompts.length.toLocaleString("en") + " prompts";
    } else {
      rows = want.generators;
      byId("count").textContent = rows.length + " of " + setup.generators.length + " generators";
    }
    byId("empty").hidden = rows.length > 0;
    shown = 0;
    busy = false;
    list.replaceChildren();
    showMore();
  }

  // One row a frame, so that scrolling never waits for many.
  function showMore() {
    if (busy || shown >= rows.length) return;
    busy = true;
    const want = state(), mine = turn, row = rows[shown++];
    list.append(want.view === "prompts" ? promptRow(row, want, mine) : generatorRow(row, want, mine));
    requestAnimationFrame(() => {
      if (mine !== turn) return;
      busy = false;
      if (byId("more").getBoundingClientRect().top < innerHeight + MARGIN) showMore();
    });
  }

  function promptRow(number, want, mine) {
    const element = promptOf.cloneNode(true);
    const [id, text, tags] = setup.prompts[number];
    part(element, "h3 b").textContent = id;
    part(element, "h3 span").textContent = text;
    for (const tag of tags) chip(part(element, ".tags"), tag);
    const beside = part(element, ".beside");
    const seeds = setup.seeds.map((_, place) => place).filter((place) => want.seed === "" || Number(want.seed) === place);
    const slots = want.generators.map((generator) => {
      const column = columnOf.cloneNode(true);
      part(column, "h4").textContent = part(column, "h4").title = setup.generators[generator];
      const shots = seeds.map((seed) => [seed, shotOf.cloneNode(true)]);
      column.append(...shots.map(([, shot]) => shot));
      beside.append(column);
      return [generator, shots];
    });
    load(number).then((images) => {
      if (!images || mine !== turn) return;
      for (const [generator, shots] of slots)
        for (const [seed, shot] of shots) fill(shot, number, generator * setup.seeds.length + seed, images, want);
    });
    return element;
  }

  function generatorRow(generator, want, mine) {
    const element = promptOf.cloneNode(true);
    part(element, "h3 span").textContent = setup.generators[generator];
    part(element, "h3 b").remove();
    for (const [number, place] of setup[want.view][want.assessor][generator]) {
      const column = columnOf.cloneNode(true), shot = shotOf.cloneNode(true), under = document.createElement("p"), go = document.createElement("button");
      part(column, "h4").textContent = setup.prompts[number][0];
      under.className = "under-prompt";
      go.type = "button";
      go.textContent = setup.prompts[number][1];
      go.title = "Show all generators' images of this prompt";
      go.addEventListener("click", () => { location.hash = "prompt=" + encodeURIComponent(setup.prompts[number][0]); });
      under.append(go);
      column.append(shot, under);
      part(element, ".beside").append(column);
      load(number).then((images) => { if (images && mine === turn) fill(shot, number, place, images, want); });
    }
    return element;
  }

  function chip(where, text, css = "") {
    const one = document.createElement("span");
    one.className = "chip " + css;
    one.textContent = text;
    where.append(one, " ");
    return one;
  }

  function fill(shot, number, place, images, want) {
    const [preview, source, note, said] = images[place];
    const found = said[want.assessor];
    const frame = part(shot, ".frame"), cap = part(shot, ".cap");
    const generator = setup.generators[Math.floor(place / setup.seeds.length)];
    if (preview) {
      const image = document.createElement("img");
      image.loading = "lazy";
      image.decoding = "async";
      image.alt = generator + ": " + setup.prompts[number][1];
      image.src = "report/thumbs/" + preview;
      frame.append(image);
    } else {
      const text = document.createElement("span");
      text.textContent = "no image";
      frame.append(text);
    }
    if (Array.isArray(found) && found.length) {
      shot.classList.add("band-" + bandOf(found[0][0]));
      const score = document.createElement("b");
      score.textContent = found[0][0];
      cap.append(score, " " + (found.length > 1 ? "+" + (found.length - 1) + " " : "") + found[0][1]);
      cap.title = "severity of the worst anomaly (0 = completely implausible, 100 = fully realistic): " + found[0][1];
    } else {
      const failed = !Array.isArray(found);
      shot.classList.add(failed ? "failed" : "none");
      cap.textContent = !failed ? "no anomalies found" : preview ? (found ? "failed: " + found.replaceAll("_", " ") : "not assessed") : (note ?? "unknown");
    }
    shot.disabled = !source && !found;
    shot.addEventListener("click", () => open(number, place, images[place]));
  }

  function open(number, place, [preview, source, note, said]) {
    const [id, text] = setup.prompts[number];
    const seed = setup.seeds[place % setup.seeds.length];
    part(large, ".what").textContent = setup.generators[Math.floor(place / setup.seeds.length)] + " · " + id + " · seed " + seed;
    const image = part(large, "img");
    image.hidden = !source;
    image.alt = text;
    if (source) image.src = source;
    else image.removeAttribute("src");
    part(large, "h3").textContent = text;
    const where = part(large, ".anomalies");
    where.replaceChildren();
    setup.assessors.forEach((name, assessor) => {
      const found = said[assessor];
      const head = document.createElement("p");
      head.className = "hint";
      head.textContent = name + ": " + (Array.isArray(found) ? (found.length ? found.length + (found.length === 1 ? " anomaly" : " anomalies") : "no anomalies found") : found ? "failed: " + found.replaceAll("_", " ") : "not assessed");
      where.append(head);
      for (const [severity, title, phenomenon, reasoning] of Array.isArray(found) ? found : []) {
        const one = foundOf.cloneNode(true);
        part(one, "h4 span").textContent = title;
        const score = part(one, ".chip");
        score.textContent = "severity " + severity;
        score.classList.add("band-" + bandOf(severity));
        const [first, second] = one.querySelectorAll("p");
        first.textContent = phenomenon;
        second.textContent = reasoning;
        where.append(one);
      }
    });
    large.showModal();
  }

  // An address names a prompt, so that one can be sent to somebody.
  function restore() {
    const id = new URLSearchParams(location.hash.slice(1)).get("prompt");
    if (id === null || !setup.prompts.some((prompt) => prompt[0] === id)) return;
    tools.reset();
    find.value = id;
    update();
    byId("images").scrollIntoView();
  }

  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  tools.addEventListener("change", (event) => { if (event.target !== find) update(); });
  tools.addEventListener("submit", (event) => event.preventDefault());
  for (const button of tools.querySelectorAll("button[data-all]"))
    button.addEventListener("click", () => {
      for (const box of tools.elements.generator.length ? tools.elements.generator : [tools.elements.generator]) box.checked = button.dataset.all === "yes";
      update();
    });
  byId("reading").addEventListener("change", (event) => { if (event.target.name === "assessor") update(); });
  part(large, ".closing button").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  addEventListener("hashchange", restore);
  new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting)) showMore(); }, { rootMargin: MARGIN + "px" }).observe(byId("more"));
  update();
  restore();
})();
