"use strict";
// Shows the images of one outcome. Without scripts all are shown.
{
  const choose = document.getElementById("choose");
  const show = () => { document.getElementById("judgements").dataset.only = choose.elements.only.value; };
  choose.hidden = false;
  choose.addEventListener("change", show);
  show(); // a browser may keep the choice when it reloads
}
