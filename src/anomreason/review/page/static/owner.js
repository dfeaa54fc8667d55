// The owner's page: how far the review is, how good the candidates are, how people work.

import { get } from "./api.js";
import { clone, count, make, makeSvg, part, plain } from "./dom.js";

const AGAIN = 15_000; // milliseconds

const percent = (value) => `${(100 * value).toFixed(1)} %`;

/** A number 0..1 with its interval, drawn and written. low: of the scale, 0 or -1. */
function share({ value, low, high, n }, from = 0, words = percent) {
  if (value === null) return "–";
  const at = (x) => `${(100 * (x - from)) / (1 - from)}%`;
  const wide = low === null ? "0" : `${(100 * (high - low)) / (1 - from)}%`;
  const drawn = makeSvg(
    "svg",
    { "aria-hidden": "true" },
    makeSvg("rect", { class: "track", x: 0, y: 4, width: "100%", height: 6, rx: 3 }),
    makeSvg("rect", { class: "range", x: at(low ?? value), y: 4, width: wide, height: 6, rx: 3 }),
    makeSvg("circle", { class: "dot", cx: at(value), cy: 7, r: 4.5 }),
  );
  const interval = low === null ? "" : `${words(low)} to ${words(high)}`;
  const cell = make("span", { className: "share" }, drawn, make("span", {}, words(value), make("small", {}, interval)));
  cell.title = `n = ${count(n)}`;
  return cell;
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((cells) => (cells instanceof Node ? cells : line(cells)));
  const made = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region" }, made);
  scroll.setAttribute("aria-label", heads[0]);
  return scroll;
}

const line = ([first, ...others]) =>
  make("tr", {}, make("th", { scope: "row", dir: "auto" }, first), ...others.map((cell) => make("td", {}, cell)));

const COUNTS = ["Share accepted", "Accepted", "Rejected", "Unsure"];
const counts = (row) => [share(row.accepted), count(row.accept), count(row.reject), count(row.unsure)];

function sorts(name, rows) {
  if (!rows.length) return make("p", { className: "hint" }, "No verdict yet.");
  const lines = rows.map((row) => {
    const correct = row.correct.value === null ? make("span", { className: "hint" }, "too few at random yet") : share(row.correct);
    const accepted = row.accepted.value === null ? "–" : `${percent(row.accepted.value)} of ${count(row.accepted.n)}`;
    return [row.name ? plain(row.name).replaceAll("_", " ") : "not known", correct, accepted, count(row.size)];
  });
  return table([name, "Estimated correct", "Accepted", "Candidates"], lines);
}

function people(rows) {
  if (!rows.length) return make("p", { className: "hint" }, "Nobody has given a verdict yet.");
  const lines = rows.flatMap((row) => {
    const seconds = row.seconds === null ? "–" : `${row.seconds.toFixed(1)} s`;
    const gold = row.gold.n ? `${percent(row.gold.value)} of ${count(row.gold.n)}` : "–";
    const warnings = row.warnings.map((text) =>
      make("tr", { className: "warning" }, make("td", { colSpan: 7 }, `⚠ ${plain(row.name)} ${plain(text)}`)),
    );
    return [line([plain(row.name), ...counts(row), seconds, gold]), ...warnings];
  });
  return table(["Person", ...COUNTS, "A verdict takes", "Right on gold"], lines);
}

function agreement(found) {
  if (!found) return make("p", { className: "hint" }, "No candidate has two verdicts yet; --overlap 0.1 lets two people judge a tenth.");
  const number = (value) => value.toFixed(2);
  const all = table(
    [`On ${count(found.items)} candidates`, "Value"],
    [
      ["Same verdict", share(found.agree)],
      ["Krippendorff's alpha", share(found.krippendorff_alpha, -1, number)],
      ["Gwet's AC1", share(found.gwet_ac1, -1, number)],
    ],
  );
  const pairs = found.pairs.map((pair) => [plain(`${pair.one}, ${pair.other}`), count(pair.agree.n), share(pair.agree), share(pair.cohen_kappa, -1, number)]);
  return make("div", {}, all, ...(pairs.length > 1 ? [table(["Two people", "Both judged", "Same verdict", "Cohen's kappa"], pairs)] : []));
}

function flagged(report) {
  const list = make("ul", { className: "flags" });
  for (const { candidate, image, name, person, reason } of report.flagged) {
    const link = make("a", { href: `/image/${image}?side=1536`, target: "_blank" }, make("img", { src: `/image/${image}?side=512`, alt: "", loading: "lazy" }));
    link.setAttribute("aria-label", `Open the image of candidate ${candidate}`);
    const by = plain(`candidate ${candidate}, flagged by ${person}${reason ? `: ${reason}` : ""}`);
    list.append(make("li", {}, link, make("div", {}, make("p", { dir: "auto" }, plain(name)), make("p", { className: "hint", dir: "auto" }, by))));
  }
  const disputed = report.disputed
    ? make("p", {}, make("a", { href: "/#disputed" }, `${count(report.disputed)} ${report.disputed === 1 ? "disagreement" : "disagreements"} to settle`))
    : make("p", { className: "hint" }, "No disagreement.");
  return make("div", {}, disputed, report.flagged.length ? list : make("p", { className: "hint" }, "Nothing is flagged."));
}

function render(report) {
  const root = clone("report");
  const { estimate } = report;
  part(root, "share").replaceChildren(
    ...(estimate.share === null
      ? ["No estimate yet"]
      : [percent(estimate.share), make("small", {}, ` correct (95 % interval ${percent(estimate.low)} to ${percent(estimate.high)})`)]),
  );
  part(root, "sentence").textContent = estimate.sentence;
  const bar = make("progress", { max: Math.max(1, report.wanted), value: report.verdicts });
  bar.setAttribute("aria-label", "Verdicts");
  part(root, "progress").append(bar, make("p", { className: "hint" }, `${count(report.verdicts)} of ${count(report.wanted)} verdicts`));
  const outlook = estimate.outlook.map(([within, more]) => make("li", { className: "chip" }, `±${percent(within)}: about ${count(more)} more`));
  if (outlook.length) {
    const list = make("ul", { className: "outlook" }, ...outlook);
    list.setAttribute("aria-label", "What more verdicts would gain");
    part(root, "outlook").append(list);
  }
  part(root, "agreement").append(agreement(report.agreement));
  part(root, "flagged").append(flagged(report));
  part(root, "people").append(people(report.people));
  part(root, "rule").textContent = report.rule;
  part(root, "sources").append(sorts("Source", report.sources));
  part(root, "detectors").append(sorts("Detector", report.detectors));
  part(root, "kinds").append(sorts("Kind", report.kinds));
  part(root, "roles").append(sorts("Role", report.roles));
  document.getElementById("main").replaceChildren(root);
}

function failed(problem) {
  const text = problem.signedOut
    ? "You are signed out: open the link that you were given again, in this browser."
    : problem.status === 403
      ? "This page is for the owner of the dataset. You can review at the link on the left."
      : "The server cannot be reached. This page tries again by itself.";
  document.getElementById("main").replaceChildren(make("p", { className: "wait" }, text));
}

async function update() {
  let last = "";
  for (;;) {
    try {
      const report = await get("/api/owner");
      if (JSON.stringify(report) !== last) render(report); // what somebody reads or scrolls stays when nothing is new
      last = JSON.stringify(report);
      document.getElementById("updated").textContent = `As of ${new Date().toLocaleTimeString("en")}`;
    } catch (problem) {
      last = "";
      failed(problem);
      if (problem.signedOut || problem.status === 403) return;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

update();
