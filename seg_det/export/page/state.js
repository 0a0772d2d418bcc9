// What the page holds, and running the model on one image at a time.

const at = (id) => document.getElementById(id);
const hasBest = Boolean(kind.best) && told.classes.some(({ threshold }) => threshold !== null);
const state = {
  engine: null,
  entries: [], // of dropped or chosen files, in order: { name, blob, size, found, ms, error, small, button, thumb, about }
  current: null, // the entry on the canvas; an example is in no list
  picture: null, // what the canvas shows: { source, size, found }
  live: null, // the camera: { stream, video, times, shown }
  slider: hasBest ? null : kind.slider.start, // null: each class at its own threshold
  shown: new Set(told.classes.keys()),
};
const view = {
  get opacity() { return state.slider ?? kind.slider.start; },
  least: (label) => Math.fround(state.slider ?? told.classes[label].threshold ?? told.threshold), // scores have 32 bits
  shows: (label) => state.shown.has(label),
};

const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const setState = (name) => { document.documentElement.dataset.state = name; };

function tell(...sentences) {
  at("notices").append(...sentences.map((sentence) => make("li", { textContent: sentence })));
  while (at("notices").children.length > 4) at("notices").firstChild.remove();
  at("notices").hidden = false;
}

function clearNotices() {
  at("notices").replaceChildren();
  at("notices").hidden = true;
}

let last = Promise.resolve();

// Run `job` after those before it; a session runs one image at a time.
function inTurn(job) {
  const mine = last.then(job);
  last = mine.catch(() => {});
  return mine;
}

async function use(way) {
  const next = await openEngine(way);
  await state.engine?.session.release().catch(() => {});
  state.engine = next;
  at("way").value = way;
}

function refuse(way, error) {
  const option = at("way").querySelector(`[value=${way}]`);
  option.disabled = true;
  option.textContent = `${WAYS[way].label} (${error instanceof Told ? error.message : "failed"})`;
  option.title = error.message;
}

function predict(image, name) {
  return inTurn(async () => {
    try {
      return await infer(state.engine, image);
    } catch (error) {
      const { way } = state.engine;
      await use("wasm"); // also anew: a session that ran out of memory may be of no more use
      const reason = /alloc|memory/i.test(error.message) ? "the browser lacks the memory" : error.message;
      if (way === "wasm") throw new Told(`${name} of ${image.width} x ${image.height} pixels cannot be run (${reason}): make it smaller.`);
      refuse(way, error);
      tell(`${WAYS[way].label} failed, so the model now runs on ${WAYS.wasm.label}.`);
      return infer(state.engine, image);
    }
  });
}

async function run(entry) {
  try {
    const bitmap = await decode(entry.blob);
    entry.size = { width: bitmap.width, height: bitmap.height };
    const { outputs, ms } = await predict(pixelsOf(bitmap, bitmap.width, bitmap.height, entry.name), entry.name);
    Object.assign(entry, { found: kind.read(outputs), ms });
    entry.small = document.createElement("canvas");
    const scale = Math.min(1, 320 / Math.max(bitmap.width, bitmap.height));
    paint(entry.small, bitmap, entry.size, null, view, { scale, unit: 1 });
    if (state.current === entry) state.picture = { source: bitmap, size: entry.size, found: entry.found };
    else bitmap.close();
  } catch (error) {
    if (!(error instanceof Told)) console.error(error);
    entry.error = error instanceof Told ? error.message : `${entry.name} cannot be run (${error.message}).`;
    tell(entry.error);
  }
}
