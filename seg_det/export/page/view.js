// What is shown of the predictions, in the canvas and beside it.

let waiting = false;

// Draw all that depends on the view, once before the next frame.
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
    state.entries.forEach(drawEntry);
  });
}

function draw() {
  const { picture } = state;
  at("canvas").hidden = !picture;
  at("hint").hidden = Boolean(picture);
  at("save").disabled = !state.entries.some(({ found }) => found) && !state.current?.found;
  if (picture) drawPicture(picture);
  const items = picture?.found ? kind.items(picture.found, view) : [];
  const summary = picture ? kind.summary(items) : "No image yet.";
  if (at("summary").textContent !== summary) at("summary").textContent = summary;
  at("canvas").setAttribute("aria-label", `${state.live ? "Camera" : (state.current?.name ?? "Image")}: ${summary}`);
  at("found").replaceChildren(...items.map(foundRow));
  drawFigures();
}

function drawPicture({ source, size, found }) {
  const unit = self.devicePixelRatio || 1;
  const room = { width: at("viewer").clientWidth, height: Math.max(240, innerHeight * 0.78) };
  const shown = Math.min(room.width / size.width, room.height / size.height, 6); // CSS pixels a pixel of the image
  Object.assign(at("canvas").style, { width: `${size.width * shown}px`, height: `${size.height * shown}px` });
  paint(at("canvas"), source, size, found, view, { scale: shown * unit, unit });
}

function drawFigures() {
  const times = [...(state.live?.times ?? [])].sort((a, b) => a - b);
  const ms = state.live ? times[times.length >> 1] : state.current?.ms;
  at("ms").textContent = ms === undefined ? "–" : ms < 10 ? ms.toFixed(1) : Math.round(ms);
  const shown = state.live?.shown ?? [];
  const seconds = (shown.at(-1) - shown[0]) / 1000;
  at("rate").textContent = shown.length > 1 ? ((shown.length - 1) / seconds).toFixed(1) : "–";
}

function swatch(label) {
  const node = make("span", { className: "swatch" });
  node.style.background = told.classes[label].colour;
  return node;
}

function foundRow({ label, value }) {
  const bar = make("i");
  bar.style.width = `${value * 100}%`;
  return make(
    "li", {}, swatch(label), make("span", { textContent: nameOf(label) }),
    make("span", { className: "value", textContent: percent(value) }), make("span", { className: "bar" }, bar),
  );
}

function drawEntry({ small, found, size, error, thumb, about }) {
  about.textContent = error ? "cannot be used" : found ? kind.summary(kind.items(found, view)).split(":")[0] : "waiting";
  if (!found) return;
  const scale = small.width / size.width;
  paint(thumb, small, { width: small.width, height: small.height }, null, view, { scale: 1, unit: 1 });
  kind.draw(thumb.getContext("2d"), found, view, { scale, unit: 1.2, captions: false });
}
