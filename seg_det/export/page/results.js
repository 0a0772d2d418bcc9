// What the outputs of each kind of model say: read once, then listed, summed up and saved as the view shows them.

const TOP = 5; // classes of an image that are listed

const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
const nameOf = (label) => told.classes[label].name;

// By the output that tells them apart.
const KINDS = {
  boxes: {
    best: true, // each class has a threshold of its own
    slider: { label: "Score threshold", start: told.threshold, note: "Objects that score less are left out." },
    read: ({ boxes, scores, labels, count: rows }) => {
      const used = Number(rows.data[0]);
      return { boxes: boxes.data.slice(0, used * 4), scores: scores.data.slice(0, used), labels: Array.from(labels.data.slice(0, used), Number) };
    },
    items: (found, view) => detected(found, view).map(({ label, score }) => ({ label, value: score })),
    summary: (items) => {
      if (!items.length) return "No objects";
      const classes = new Map();
      for (const { label } of items) classes.set(label, (classes.get(label) ?? 0) + 1);
      const parts = [...classes].map(([label, number]) => (number > 1 ? `${number} × ${nameOf(label)}` : nameOf(label)));
      return `${count(items.length, "object")}: ${parts.join(", ")}`;
    },
    rows: (found, view) =>
      detected(found, view).map(({ box: [left, top, right, bottom], label, score }) => ({
        category_id: told.classes[label].id, bbox: [left, top, right - left, bottom - top], score,
      })),
    draw: drawBoxes,
  },
  mask: {
    slider: { label: "Opacity of the mask", start: 0.6, note: "Shares are of the image's pixels." },
    read: ({ mask: { data, dims } }) => ({ height: dims[0], width: dims[1], ...runs(data) }),
    items: (found, view) => {
      const pixels = found.width * found.height;
      return sums(found)
        .map((sum, label) => ({ label, value: sum / pixels }))
        .filter(({ label, value }) => value > 0 && view.shows(label))
        .sort((a, b) => b.value - a.value);
    },
    summary: (items) => items.slice(0, TOP).map(({ label, value }) => `${nameOf(label)} ${percent(value)}`).join(", ") || "No classes",
    rows: (found, view) =>
      [...new Set(found.labels)].filter(view.shows).sort((a, b) => a - b).map((label) => ({
        category_id: told.classes[label].id, segmentation: { size: [found.height, found.width], counts: cocoRuns(found, label) },
      })),
    draw: drawMask,
  },
  scores: {
    slider: { label: "Score threshold", start: 0, note: `The ${TOP} most probable classes are listed; those that score less are left out.` },
    read: ({ scores }) => ({ scores: scores.data.slice() }),
    items: (found, view) => ranked(found, view).map(({ label, score }) => ({ label, value: score })),
    summary: (items) => (items.length ? `${nameOf(items[0].label)} ${percent(items[0].value)}` : "No classes"),
    rows: (found, view) => ranked(found, view).map(({ label, score }) => ({ category_id: told.classes[label].id, score })),
    draw: drawTitle,
  },
};
const kindName = Object.keys(KINDS).find((name) => told.outputs.includes(name));
const kind = KINDS[kindName];

// The objects that are shown, best first.
function detected({ boxes, scores, labels }, view) {
  const rows = labels.map((label, i) => ({ label, score: scores[i], box: Array.from(boxes.subarray(4 * i, 4 * i + 4)) }));
  return rows.filter(({ label, score }) => score >= view.least(label) && view.shows(label));
}

// The most probable of the classes that are shown.
function ranked({ scores }, view) {
  const rows = Array.from(scores, (score, label) => ({ label, score }));
  return rows.filter(({ label, score }) => view.shows(label) && score >= view.least(label)).sort((a, b) => b.score - a.score).slice(0, TOP);
}

// A mask row by row as runs of one class: a hundredth of its memory, since a page may hold hundreds.
function runs(mask) {
  const lengths = [];
  const labels = [];
  for (let start = 0, end = 0; start < mask.length; start = end) {
    while (end < mask.length && mask[end] === mask[start]) end++;
    lengths.push(end - start);
    labels.push(mask[start]);
  }
  return { lengths: Uint32Array.from(lengths), labels: Uint8Array.from(labels) };
}

// Pixels of each class.
function sums(found) {
  const pixels = new Array(told.classes.length).fill(0);
  found.lengths.forEach((length, i) => { pixels[found.labels[i]] += length; });
  return pixels;
}

// One class as COCO's uncompressed RLE: runs down the columns, beginning with what is not of the class.
function cocoRuns(found, label) {
  const { width, height } = found;
  const columns = new Uint8Array(width * height);
  let at = 0;
  found.lengths.forEach((length, i) => {
    if (found.labels[i] === label) for (let p = at; p < at + length; p++) columns[(p % width) * height + Math.floor(p / width)] = 1;
    at += length;
  });
  const counts = [];
  let value = 0;
  for (let start = 0, end = 0; start < columns.length; start = end, value = 1 - value) {
    while (end < columns.length && columns[end] === value) end++;
    counts.push(end - start);
  }
  return counts;
}
