// Images, fetched and decoded before they are needed.
//
//   prefetch(item.src);
//   stage.show(await decoded(item.src), item.region);

const MOST = 16;
const held = new Map(); // by address: the promise of a decoded image, the least recently used first

/** A decoded image; rejects when it cannot be had. The same element each time. */
export function decoded(src) {
  let image = held.get(src);
  held.delete(src);
  if (!image) {
    const element = new Image();
    element.decoding = "sync";
    element.draggable = false;
    element.alt = "";
    element.src = src;
    image = element.decode().then(() => element);
    image.catch(() => held.delete(src)); // asked for again next time
  }
  held.set(src, image);
  if (held.size > MOST) held.delete(held.keys().next().value);
  return image;
}

export const prefetch = (...addresses) => addresses.filter(Boolean).forEach((src) => decoded(src).catch(() => {}));
