// Small copies of images, made and drawn by this browser alone. They are drawn on canvases, so that the page needs no
// addresses other than those of the service.
//
//   const { blob, width, height } = await preview(file, 2048);
//   await draw(canvas, blob);

/** A copy, at most `side` pixels long, turned as its EXIF orientation says. Throws when the browser cannot read it. */
export async function preview(file, side) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const { width, height } = bitmap;
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // under what is transparent, as the model gets it
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.9));
  if (!blob) throw new Error("the image cannot be copied");
  return { blob, width, height };
}

/** Put an image on a canvas, pixel by pixel; whether it worked. */
export async function draw(canvas, blob) {
  try {
    const bitmap = await createImageBitmap(blob);
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    return true;
  } catch {
    return false;
  }
}
