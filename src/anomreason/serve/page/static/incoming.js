// Images that people drop, paste or choose.
//
//   takeFiles(document, (files) => ..., (text) => note(text));

const kindOf = (type) => (type ? ` (${type})` : "");

/** Why a file is not even sent; null: it is. most: bytes that the service takes. */
export function unfit(file, most) {
  if (!file.size) return "The file is empty.";
  if (file.type && !file.type.startsWith("image/")) return `This is not an image${kindOf(file.type)}. Drop a PNG, JPEG, WebP, AVIF, GIF or TIFF file.`;
  if (most && file.size > most) return `The file has ${megabytes(file.size)}, and the service takes ${megabytes(most)} at most. Save it smaller, or as JPEG, and drop that file.`;
  return null;
}

const megabytes = (size) => `${(size / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;

/** Call `take` with what is dropped anywhere on the page or pasted; `note` when there was no image in it. */
export function takeFiles(body, take, note) {
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");
  let inside = 0; // elements entered and not left: the events come for each of them
  const over = (on) => body.classList.toggle("over", on);
  body.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    inside += 1;
    over(true);
  });
  body.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  body.addEventListener("dragleave", (event) => {
    if (carries(event) && --inside <= 0) over((inside = 0) > 0);
  });
  body.addEventListener("drop", (event) => {
    inside = 0;
    over(false);
    if (!carries(event)) return;
    event.preventDefault();
    const items = [...event.dataTransfer.items];
    const folder = items.some((item) => item.webkitGetAsEntry?.()?.isDirectory);
    const files = items.filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile());
    if (files.length) take(files.filter(Boolean));
    else if (folder) note("That is a folder. Open it and drop the images in it; for many, use `anomreason detect` on the command line.");
    else note("That was a link, not a file. Save the image first, then drop the file.");
  });
  addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea")) return;
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) take(files);
    else note("There is no image in the clipboard. Copy an image, not its address, and paste again.");
  });
}
