// Images that are dropped, chosen or pasted, and the examples: run, listed, selected and saved.

async function add(files) {
  if (!files.length || !state.engine) return;
  stopCamera();
  clearNotices();
  const added = [...files].map((blob) => ({ name: blob.name || "pasted image", blob }));
  state.entries.push(...added);
  at("results").append(...added.map(listed));
  progress();
  select(added[0]);
  for (const entry of added) {
    if (!state.entries.includes(entry)) continue; // removed in the meantime
    await run(entry);
    if (state.current?.error && !entry.error) select(entry);
    progress();
    redraw();
  }
}

// The button of an entry in the list.
function listed(entry) {
  entry.thumb = make("canvas", { width: 4, height: 3 });
  entry.thumb.setAttribute("aria-hidden", "true");
  entry.about = make("span", { className: "about", textContent: "waiting" });
  const name = make("span", { className: "name", textContent: entry.name });
  entry.button = make("button", { type: "button", title: entry.name, onclick: () => { stopCamera(); select(entry); } });
  entry.button.append(entry.thumb, name, entry.about);
  return make("li", {}, entry.button);
}

function progress() {
  const { length } = state.entries;
  const done = state.entries.filter(({ found, error }) => found || error).length;
  at("results-box").hidden = at("clear").hidden = !length;
  at("results-title").textContent = done < length ? `Images: ${done} of ${length}` : count(length, "image");
  Object.assign(at("progress"), { max: length || 1, value: done, hidden: done === length });
  at("results-box").dataset.done = done === length;
  if (!length) at("results-title").textContent = "Images";
}

async function select(entry) {
  state.current = entry;
  for (const button of document.querySelectorAll(".strip button")) button.setAttribute("aria-current", button === entry.button);
  if (!entry.found) return;
  const bitmap = await decode(entry.blob);
  if (state.current !== entry || state.live) return bitmap.close();
  state.picture = { source: bitmap, size: entry.size, found: entry.found };
  redraw();
}

async function pick(button, file) {
  stopCamera();
  clearNotices();
  const entry = { name: file, button };
  select(entry);
  try {
    const answer = await fetch(inFolder(file));
    if (!answer.ok) throw new Told(`${file} cannot be loaded (${answer.status}): copy the whole folder of the export.`);
    entry.blob = new File([await answer.blob()], file);
    await run(entry);
  } catch (error) {
    tell(error.message);
  }
  redraw();
}

function clear() {
  state.entries = [];
  at("results").replaceChildren();
  Object.assign(state, { current: null, picture: null });
  progress();
  redraw();
  at("files").focus();
}

function save() {
  const entries = state.entries.length ? state.entries : [state.current];
  const rows = entries.flatMap((entry, i) =>
    entry?.found ? kind.rows(entry.found, view).map((row) => ({ image_id: i + 1, file_name: entry.name, ...row })) : [],
  );
  const url = URL.createObjectURL(new Blob([JSON.stringify(rows)], { type: "application/json" }));
  make("a", { href: url, download: `${told.name}_predictions.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
