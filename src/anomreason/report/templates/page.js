"use strict";
// The page of an image: highlights a box with its anomaly, steps with the arrow keys, warns when the image is gone.
(() => {
  const byId = (id) => document.getElementById(id);
  const bar = byId("bar"), before = byId("before"), after = byId("after");

  const linked = (target) => target.closest?.("[data-link]")?.dataset.link;
  function light(name) {
    for (const part of document.querySelectorAll("[data-link]")) part.classList.toggle("lit", part.dataset.link === name);
  }
  for (const on of ["pointerover", "focusin"]) document.addEventListener(on, (event) => light(linked(event.target)));
  for (const off of ["pointerleave", "focusout"]) document.documentElement.addEventListener(off, () => light(undefined));

  // Steps through what the gallery had chosen, in its order, when this page is part of it.
  try {
    const gallery = new URL("../../report.html", location.href);
    const view = JSON.parse(sessionStorage.getItem("anomreason:" + gallery.pathname));
    const place = view ? view.pages.indexOf(bar.dataset.page) : -1;
    if (place >= 0) {
      const step = (link, page) => (page ? link.setAttribute("href", page) : link.removeAttribute("href"));
      step(before, view.pages[place - 1]);
      step(after, view.pages[place + 1]);
      byId("place").textContent = (place + 1).toLocaleString("en") + " of " + view.pages.length.toLocaleString("en");
      byId("back").href = "../../report.html" + view.hash;
    }
  } catch {}

  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest?.("input, pre")) return;
    const link = event.key === "ArrowLeft" ? before : event.key === "ArrowRight" ? after : null;
    if (link?.hasAttribute("href")) link.click();
  });

  // A folded call that is linked to opens.
  function open() {
    for (let part = byId(location.hash.slice(1)); part; part = part.parentElement?.closest("details")) part.open = true;
  }
  addEventListener("hashchange", open);
  open();

  const image = byId("image");
  if (!image) return;

  // Small images are enlarged, up to twice, as far as there is room.
  function fit() {
    image.style.width = "";
    if (!image.naturalWidth) return;
    const high = parseFloat(getComputedStyle(image).maxHeight) * image.naturalWidth / image.naturalHeight;
    const { paddingLeft, paddingRight } = getComputedStyle(byId("stage"));
    const room = byId("stage").parentElement.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    const wide = Math.min(room, high, 2 * image.naturalWidth);
    image.style.width = wide + "px";
  }
  function gone() {
    byId("gone").hidden = false;
    for (const part of document.querySelectorAll(".part")) part.hidden = true;
    if (image.dataset.preview && image.getAttribute("src") !== image.dataset.preview) image.src = image.dataset.preview;
    else byId("stage").hidden = true;
  }
  image.addEventListener("load", fit);
  image.addEventListener("error", gone);
  addEventListener("resize", fit);
  if (image.complete) (image.naturalWidth ? fit : gone)();
})();
