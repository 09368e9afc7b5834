// Preparation of chosen pictures for the upload: they are checked, and scaled down if they are large.

const SIDE = 1600; // maximum pixels of the longer side; training uses far fewer
const SENT = ["image/jpeg", "image/png", "image/webp"];

/**
 * Resolves to a blob of an allowed type and size. Throws `Error` with a sentence for the user if the file is not a
 * picture, is too small, or cannot be made small enough.
 */
export async function prepared(file, limits) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read: choose JPEG, PNG or WebP.`);
  }
  try {
    const { width, height } = bitmap;
    if (Math.min(width, height) < limits.image_side)
      throw new Error(`${file.name} is too small: it takes ${limits.image_side} pixels on each side.`);
    const pixels = Math.min(limits.image_pixels, limits.model_pixels / limits.images_max);
    const scale = Math.min(1, SIDE / Math.max(width, height), Math.sqrt(pixels / (width * height)));
    if (scale === 1 && SENT.includes(file.type) && file.size <= limits.image_bytes) return file;
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.floor(width * scale));
    canvas.height = Math.max(1, Math.floor(height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // JPEG has no transparency
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    for (const quality of [0.92, 0.8, 0.6]) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
      if (blob && blob.size <= limits.image_bytes) return blob;
    }
    throw new Error(`${file.name} is too large, and could not be made smaller.`);
  } finally {
    bitmap.close();
  }
}

/** Uploads a picture with the form from the API, in at most three attempts. Calls `progress` with 0 to 1. */
export async function send(upload, blob, progress) {
  for (const pause of [800, 2400, null]) {
    try {
      return await post(upload, blob, progress);
    } catch (error) {
      if (pause === null || error.final) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

function post({ url, fields }, blob, progress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", blob); // last, because S3 ignores fields after it
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of uploads
    request.open("POST", url);
    request.timeout = 120_000;
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) {
        progress(1);
        resolve();
      } else {
        const refused = request.status >= 400 && request.status < 500;
        const words = refused ? "The picture was refused, or the time to send it is over." : "The picture did not arrive.";
        reject(Object.assign(new Error(words), { final: refused }));
      }
    });
    for (const name of ["error", "timeout", "abort"])
      request.addEventListener(name, () => reject(new Error("The picture did not arrive.")));
    request.send(form);
  });
}
