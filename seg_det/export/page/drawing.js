// Predictions as they are drawn over an image. `view` says what is shown: { least(class), shows(class), opacity }.

const INK = { dark: "#14171a", light: "#ffffff" };
const FONT = '600 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

const colours = told.classes.map((one) => one.colour.match(/\d+/g).map(Number));
const inkOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 120 ? INK.dark : INK.light);
const percent = (value) => (value > 0 && value < 0.01 ? "< 1\u00a0%" : `${Math.round(value * 100)}\u00a0%`);

// The image at `scale` canvas pixels a pixel of it, what was found on top; `unit` is the size of a CSS pixel.
function paint(canvas, source, size, found, view, { scale, unit, captions = true }) {
  canvas.width = Math.max(1, Math.round(size.width * scale));
  canvas.height = Math.max(1, Math.round(size.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  if (found) kind.draw(pen, found, view, { scale, unit, captions });
}

function drawBoxes(pen, found, view, { scale, unit, captions }) {
  const items = detected(found, view).sort((a, b) => area(b.box) - area(a.box)); // small ones on top
  for (const { box, label } of items) {
    const [left, top, right, bottom] = box.map((side) => side * scale);
    const inset = 1.25 * unit;
    const outline = [left + inset, top + inset, Math.max(1, right - left - 2 * inset), Math.max(1, bottom - top - 2 * inset)];
    pen.lineJoin = "round";
    pen.strokeStyle = "rgb(0 0 0 / 55%)";
    pen.lineWidth = 4.5 * unit;
    pen.strokeRect(...outline);
    pen.strokeStyle = told.classes[label].colour;
    pen.lineWidth = 2.5 * unit;
    pen.strokeRect(...outline);
  }
  if (!captions) return;
  for (const { box, label, score } of items) {
    const text = `${told.classes[label].name.replace(/\s+/g, " ")} ${percent(score)}`;
    caption(pen, text, colours[label], box[0] * scale, box[1] * scale, unit);
  }
}

const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);

// A plate above the point, or below it where the image ends; pushed back into the image where it would leave it.
function caption(pen, text, colour, x, y, unit) {
  pen.font = FONT.replace("13px", `${13 * unit}px`);
  const width = pen.measureText(text).width + 10 * unit;
  const height = 20 * unit;
  const left = Math.max(0, Math.min(x, pen.canvas.width - width));
  const top = y >= height ? y - height : Math.max(0, Math.min(y, pen.canvas.height - height));
  pen.fillStyle = `rgb(${colour})`;
  pen.fillRect(left, top, width, height);
  pen.fillStyle = inkOn(colour);
  pen.textBaseline = "middle";
  pen.fillText(text, left + 5 * unit, top + height / 2 + 0.5 * unit);
}

const layer = document.createElement("canvas");

function drawMask(pen, found, view) {
  layer.width = found.width;
  layer.height = found.height;
  const layerPen = layer.getContext("2d");
  const picture = layerPen.createImageData(found.width, found.height);
  const values = new Uint32Array(picture.data.buffer);
  const bytes = new Uint8ClampedArray(told.classes.length * 4);
  // Black, which most palettes have for the background, would hide the image: it only dims it.
  const strength = (colour, label) => (view.shows(label) ? (colour.some(Boolean) ? 255 : 90) : 0);
  colours.forEach((colour, label) => bytes.set([...colour, strength(colour, label)], label * 4));
  const palette = new Uint32Array(bytes.buffer);
  let at = 0;
  found.lengths.forEach((length, i) => values.fill(palette[found.labels[i]] ?? 0, at, (at += length)));
  layerPen.putImageData(picture, 0, 0);
  pen.save();
  pen.imageSmoothingEnabled = false;
  pen.globalAlpha = view.opacity;
  pen.drawImage(layer, 0, 0, pen.canvas.width, pen.canvas.height);
  pen.restore();
}

function drawTitle(pen, found, view, { unit, captions }) {
  const [best] = ranked(found, view);
  if (best && captions) caption(pen, `${told.classes[best.label].name} ${percent(best.score)}`, colours[best.label], 0, 0, unit);
}
