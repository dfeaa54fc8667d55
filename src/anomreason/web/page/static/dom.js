// Makes and fills elements. Text of models and people only ever becomes text: nothing here reads HTML.
//
//   fill(clone("candidate"), item)

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The first element of a template of the page. */
export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function part(root, name) {
  return root.querySelector(`[data-part="${name}"]`);
}

// Overrides and isolates of direction, and control characters but for tab and newline: they would let a text disguise itself.
const DISGUISES = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text with what is invisible in it made visible. */
export function plain(text) {
  return String(text ?? "").replace(DISGUISES, "\ufffd");
}

/** Put the fields of a record into the elements that name them. */
export function fill(root, record) {
  for (const place of root.querySelectorAll("[data-field]")) place.textContent = plain(record[place.dataset.field]);
  return root;
}

export const count = (number) => number.toLocaleString("en");
