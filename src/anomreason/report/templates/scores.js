"use strict";
// The images of a scoring: filtered, sorted and shown a few at a time; their texts are loaded from scripts beside the
// page when they come into view. Texts are only ever set through textContent and properties, never as HTML.
(() => {
  const STEP = 20;
  const MOST_REDRAWN = 400; // cards, when only the threshold changes
  const byId = (id) => document.getElementById(id);
  const setup = JSON.parse(byId("setup").textContent);
  const reading = byId("reading"), filters = byId("filters"), find = byId("find"), list = byId("images");
  const [imageOf, saidOf, nearOf, joinOf] = ["image", "said", "near", "join"].map((id) => byId(id).content.firstElementChild);
  const says = new Map(setup.failures);
  const byName = new Intl.Collator(undefined, { numeric: true });
  const METRICS = 2;
  const loading = new Map(); // number of a script -> promise of its images
  const chunks = []; // number of a script -> its images, once loaded
  const texts = []; // place of an image -> its texts in small letters, once searched
  let index = null; // columns: image, failure, predictions, truths, scores
  let chosen = []; // places of images, as filtered and sorted
  let shown = 0, turn = 0, busy = false;

  // What the page is set to.

  const picked = (name) => Number(new FormData(reading).get(name));
  function state() {
    const profile = picked("profile"), view = picked("view"), threshold = picked("threshold"), metric = picked("metric");
    const pair = profile * setup.views.length + view;
    return {
      profile, view, threshold, metric, pair,
      cell: pair * setup.thresholds.length + threshold,
      least: Number(setup.thresholds[threshold]),
      share: setup.views[view][1],
      column: 4 + pair * METRICS,
      words: find.value.trim().toLowerCase().split(/\s+/).filter(Boolean),
      show: byId("show").value,
      low: byId("low").value === "" ? -Infinity : byId("low").valueAsNumber,
      high: byId("high").value === "" ? Infinity : byId("high").valueAsNumber,
      sort: byId("sort").value,
    };
  }
  const score = (place, want) => index[want.column + want.metric][place] / 10000;
  const size = (place) => index[2][place] + index[3][place];

  // Scripts call these two as they load.

  self.anomreasonScores = {
    index(columns) { index = columns; },
    chunk(number, rows) { chunks[number] = rows; },
  };

  function load(number) {
    if (!loading.has(number)) {
      loading.set(number, new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = "report/scores/" + number + ".js";
        script.onload = script.onerror = () => {
          script.remove();
          if (!chunks[number]) byId("gone").hidden = false;
          resolve(chunks[number] ?? null);
        };
        document.head.append(script);
      }));
    }
    return loading.get(number);
  }

  // Filtering and sorting.

  function textsOf(place) {
    const rows = chunks[Math.floor(place / setup.chunk)];
    if (!rows) return index[0][place].toLowerCase();
    const [predictions, truths] = rows[place % setup.chunk];
    const said = [...predictions, ...truths].map((a) => a[0] + "\n" + a[1] + "\n" + a[2]);
    return (texts[place] ??= [index[0][place], ...said].join("\n").toLowerCase());
  }

  function kept(place, want) {
    const failure = index[1][place], p = index[2][place], t = index[3][place];
    if (want.show === "answered" && failure !== null) return false;
    if (want.show === "misses" && (failure !== null || p || !t)) return false;
    if (want.show === "alarms" && (failure !== null || !p || t)) return false;
    if (want.show === "empty" && (failure !== null || p || t)) return false;
    if (want.show.startsWith("failed:") && want.show !== "failed:" + failure) return false;
    const got = score(place, want);
    return got >= want.low && got <= want.high && (!want.words.length || want.words.every((word) => textsOf(place).includes(word)));
  }

  // The images come worst first, so ties keep that order.
  function choose(want) {
    const places = index[0].map((_, place) => place).filter((place) => kept(place, want));
    const failed = (place) => Number(index[1][place] !== null);
    const orders = {
      worst: (a, b) => score(a, want) - score(b, want) || failed(a) - failed(b) || size(b) - size(a),
      best: (a, b) => score(b, want) - score(a, want) || size(b) - size(a),
      size: (a, b) => size(b) - size(a),
      name: (a, b) => byName.compare(index[0][a], index[0][b]),
    };
    return places.sort(orders[want.sort]);
  }

  function count(note = "") {
    byId("count").textContent = chosen.length.toLocaleString("en") + " of " + index[0].length.toLocaleString("en") + " images" + note;
    byId("empty").hidden = chosen.length > 0 || note !== "";
    byId("why").textContent = index[0].length ? "No image matches." : "No image was scored.";
    byId("clear").hidden = !index[0].length;
  }

  async function update(atLeast = STEP) {
    const want = state(), mine = ++turn;
    draw(want);
    keep(want);
    if (!index) return;
    chosen = choose(want);
    restart(atLeast);
    count();
    if (!want.words.length) return;
    // Names are searched at once, texts as they are loaded; the list is renewed when all have been.
    for (let number = 0; number < setup.files; number++) {
      if (chunks[number]) continue;
      count(", searching texts " + Math.round((100 * number) / setup.files) + " %");
      await load(number);
      if (mine !== turn) return;
    }
    const all = choose(want);
    if (all.length !== chosen.length) {
      chosen = all;
      restart(atLeast);
    }
    count();
  }

  function restart(atLeast) {
    shown = 0;
    busy = false;
    list.replaceChildren();
    showMore(atLeast);
  }

  async function showMore(wanted) {
    if (busy || !index || shown >= chosen.length) return;
    busy = true;
    const mine = turn, from = chosen, want = state();
    const places = from.slice(shown, shown + wanted);
    await Promise.all([...new Set(places.map((place) => Math.floor(place / setup.chunk)))].map(load));
    if (mine !== turn || from !== chosen) return;
    const fragment = document.createDocumentFragment();
    for (const place of places) {
      const rows = chunks[Math.floor(place / setup.chunk)];
      if (rows) fragment.append(card(place, rows[place % setup.chunk], want));
    }
    list.append(fragment);
    shown += places.length;
    busy = false;
    if (byId("more").getBoundingClientRect().top < innerHeight + 1500) showMore(STEP);
  }

  // One image.

  const part = (element, selector) => element.querySelector(selector);
  const said = (value, least) => (value.toFixed(3) === least.toFixed(3) && value < least ? value.toFixed(6) : value.toFixed(3));
  const similarity = (pair, want) => Math.round((want.share * pair[2] + (1 - want.share) * pair[3]) * 1e9) / 1e9;

  function card(place, row, want) {
    const [predictions, truths, pairs, found] = row;
    const element = imageOf.cloneNode(true);
    const [image, failure, p, t] = index.map((column) => column[place]);
    part(element, "h3").textContent = image;
    const sum = part(element, ".sum");
    const chip = (text, css) => {
      const one = document.createElement("span");
      one.className = "chip " + css;
      one.textContent = text;
      sum.append(one, " ");
    };
    if (failure !== null) chip("failed: " + failure.replaceAll("_", " "), "failed");
    chip("SemAP " + (index[want.column][place] / 10000).toFixed(3), "plain");
    chip("SemF1 " + (index[want.column + 1][place] / 10000).toFixed(3), "plain");
    sum.append(found[want.cell] + " matched · " + (t - found[want.cell]) + " missed · " + (p - found[want.cell]) + " without a match");
    const silent = failure !== null ? "Failed: " + (says.get(failure) ?? failure) + "." : "Nothing predicted.";
    if (p || t) part(element, ".rows").append(...rowsOf(predictions, truths, pairs, want, silent));
    if (!p && !t) part(element, ".rows").append(hint(failure === null ? "Nothing predicted, and nothing to find." : silent));
    if (Math.max(p, t) > setup.most) element.append(hint("The first " + setup.most + " of each side are shown; the rest stands in matches.jsonl."));
    if (!p && !t) part(element, ".sides").remove();
    return element;
  }

  function hint(text) {
    const element = document.createElement("p");
    element.className = "hint";
    element.textContent = text;
    return element;
  }

  function rowsOf(predictions, truths, pairs, want, silent) {
    const joined = pairs.filter((pair) => pair[4].includes(want.cell)).sort((a, b) => a[1] - b[1]);
    const ofPrediction = new Map(joined.map((pair) => [pair[0], pair]));
    const ofTruth = new Map(joined.map((pair) => [pair[1], pair]));
    const why = (pair) => reason(pair, ofPrediction, ofTruth, want);
    const rows = joined.map((pair) => row("matched", box(truths[pair[1]], "truth", pair[1]), join(pair, want), box(predictions[pair[0]], "prediction", pair[0])));
    const missed = truths.flatMap((truth, t) =>
      ofTruth.has(t) ? [] : [box(truth, "truth", t), near(nearest(pairs, 1, t, want), 0, predictions, why, want)]);
    const extra = predictions.flatMap((prediction, p) =>
      ofPrediction.has(p) ? [] : [box(prediction, "prediction", p), near(nearest(pairs, 0, p, want), 1, truths, why, want)]);
    if (!predictions.length) extra.push(hint(silent));
    if (!truths.length) missed.push(hint("Nothing to find."));
    if (missed.length || extra.length) rows.push(row("apart", column("missed", missed), document.createElement("span"), column("extra", extra)));
    return rows;
  }

  function row(css, ...parts) {
    const element = document.createElement("div");
    element.className = "row " + css;
    element.append(...parts);
    return element;
  }

  function column(css, parts) {
    const element = document.createElement("div");
    element.className = css;
    element.append(...parts);
    return element;
  }

  // Numbers are those of matches.jsonl, so that both can be read together.
  function box([name, phenomenon, reasoning, severity], side, number) {
    const element = saidOf.cloneNode(true);
    element.dataset.link = side + number;
    part(element, ".tag").textContent = side + " " + number;
    part(element, "strong").textContent = name;
    part(element, ".phenomenon").textContent = phenomenon;
    part(element, ".reasoning").textContent = reasoning;
    const chip = part(element, ".chip");
    if (severity === null) chip.remove();
    else {
      chip.textContent = "severity " + severity;
      chip.title = "0 = completely implausible, 100 = fully realistic";
      chip.classList.add("band-" + Math.min(Math.max(Math.floor(severity / 20), 0), 4));
    }
    return element;
  }

  function join(pair, want) {
    const element = joinOf.cloneNode(true);
    part(element, "b").textContent = similarity(pair, want).toFixed(3);
    part(element, "small").textContent = "phe " + pair[2].toFixed(2) + " · rea " + pair[3].toFixed(2);
    element.title = setup.views[want.view][0] + " " + similarity(pair, want).toFixed(6) + ", phenomena " + pair[2].toFixed(6) + ", reasonings " + pair[3].toFixed(6);
    return element;
  }

  function nearest(pairs, side, number, want) {
    let best = null;
    for (const pair of pairs) {
      if (pair[side] === number && (!best || similarity(pair, want) > similarity(best, want))) best = pair;
    }
    return best;
  }

  // Why a pair is not one at the chosen profile, view and threshold.
  function reason(pair, ofPrediction, ofTruth, want) {
    const value = similarity(pair, want);
    if (value < want.least) return "below " + setup.thresholds[want.threshold];
    const taken = ofTruth.get(pair[1]), gone = ofPrediction.get(pair[0]);
    if (taken) return "truth " + pair[1] + " was taken by prediction " + taken[0] + " (" + similarity(taken, want).toFixed(3) + ")";
    if (gone) return "prediction " + pair[0] + " took truth " + gone[1] + " (" + similarity(gone, want).toFixed(3) + ")";
    return "not matched";
  }

  // Files may keep no partner, above all where the other side is empty.
  function near(pair, side, others, why, want) {
    if (!pair) return "";
    const element = nearOf.cloneNode(true);
    const what = side ? "truth" : "prediction";
    const summary = part(element, "summary");
    element.dataset.partner = what + pair[side];
    const value = document.createElement("b");
    value.textContent = said(similarity(pair, want), want.least);
    summary.append("nearest: " + what + " " + pair[side] + " ", value, ", " + why(pair));
    part(element, "p").textContent = "“" + others[pair[side]][0] + "” · phe " + pair[2].toFixed(3) + ", rea " + pair[3].toFixed(3);
    const recorded = part(element, ".recorded");
    if (pair[5]) {
      recorded.textContent = "Recorded for " + setup.profiles[0] + ", full: " + pair[5];
      summary.title = recorded.textContent;
    } else recorded.remove();
    return element;
  }

  // Plots and the table follow the same choice.

  function draw(want) {
    for (const element of document.querySelectorAll("[data-plots]")) {
      const here = Number(element.dataset.plots) === want.pair;
      if (element.localName === "tr") element.classList.toggle("picked", here);
      else element.hidden = !here;
    }
    const cell = setup.profiles[want.profile] + " " + setup.thresholds[want.threshold];
    for (const element of document.querySelectorAll("[data-severity]")) element.hidden = element.dataset.severity !== cell;
  }

  // The address keeps what was chosen.

  const TOLD = ["show", "low", "high", "sort", "find"];
  const CHOICES = { profile: () => setup.profiles, view: () => setup.views.map((view) => view[0]), threshold: () => setup.thresholds, metric: () => ["SemAP", "SemF1"] };
  const first = Object.fromEntries(Object.keys(CHOICES).map((name) => [name, picked(name)]));

  function keep(want) {
    const hash = new URLSearchParams();
    for (const [name, values] of Object.entries(CHOICES)) if (want[name] !== first[name]) hash.set(name, values()[want[name]]);
    for (const id of TOLD) if (byId(id).value !== (id === "sort" ? "worst" : "")) hash.set(id, byId(id).value);
    if (hash.toString() !== location.hash.slice(1)) history.replaceState(null, "", "#" + hash);
  }

  function restore() {
    const hash = new URLSearchParams(location.hash.slice(1));
    for (const [name, values] of Object.entries(CHOICES)) {
      const place = values().indexOf(hash.get(name));
      reading.querySelector(`input[name=${name}][value="${place < 0 ? first[name] : place}"]`).checked = true;
    }
    for (const id of TOLD) {
      byId(id).value = hash.get(id) ?? (id === "sort" ? "worst" : "");
      if (byId(id).selectedIndex === -1) byId(id).selectedIndex = 0;
    }
  }

  // What happens when.

  let waiting = 0;
  for (const id of ["find", "low", "high"]) byId(id).addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 200);
  });
  for (const form of [reading, filters]) form.addEventListener("submit", (event) => event.preventDefault());
  reading.addEventListener("change", (event) => update(event.target.name === "threshold" ? Math.min(Math.max(shown, STEP), MOST_REDRAWN) : STEP));
  for (const id of ["show", "sort"]) byId(id).addEventListener("change", () => update());
  byId("clear").addEventListener("click", () => {
    filters.reset();
    update();
  });
  for (const line of document.querySelectorAll("tr[data-plots]")) line.addEventListener("click", () => {
    const place = Number(line.dataset.plots);
    reading.querySelector(`input[name=profile][value="${Math.floor(place / setup.views.length)}"]`).checked = true;
    reading.querySelector(`input[name=view][value="${place % setup.views.length}"]`).checked = true;
    update();
  });
  addEventListener("hashchange", () => {
    restore();
    update();
  });
  function light(target, on) {
    const partner = target.closest?.("[data-partner]");
    const there = partner?.closest(".scored").querySelector(`[data-link="${partner.dataset.partner}"]`);
    there?.classList.toggle("lit", on);
  }
  for (const [event, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
    list.addEventListener(event, (happened) => light(happened.target, on));
  }
  // Both texts of a matched pair unfold together.
  list.addEventListener("toggle", (event) => {
    for (const box of event.target.closest(".matched")?.querySelectorAll(".said-box") ?? []) box.open = event.target.open;
  }, true);
  new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting)) showMore(STEP);
  }, { rootMargin: "1500px" }).observe(byId("more"));

  document.addEventListener("DOMContentLoaded", () => {
    if (!index) byId("gone").hidden = false;
    restore();
    update();
  });
})();
