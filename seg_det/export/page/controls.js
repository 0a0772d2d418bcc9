// The controls, and the start of the page.

function showSlider() {
  const value = state.slider ?? told.classes.reduce((sum, { threshold }) => sum + (threshold ?? told.threshold), 0) / told.classes.length;
  at("slider").value = value;
  at("slider").setAttribute("aria-valuetext", state.slider === null ? "best for each class" : value.toFixed(2));
  at("slider-value").textContent = state.slider === null ? "by class" : value.toFixed(2);
  at("slider-note").textContent =
    state.slider === null ? "Each class begins at the score where its F1 is best on the validation images." : kind.slider.note;
  at("best").setAttribute("aria-pressed", state.slider === null);
  for (const node of document.querySelectorAll(".least")) node.hidden = state.slider !== null;
  redraw();
}

function classRow({ name, threshold }, label) {
  const box = make("input", { type: "checkbox", checked: true });
  box.onchange = () => { box.checked ? state.shown.add(label) : state.shown.delete(label); redraw(); };
  const least = hasBest ? [make("span", { className: "least", textContent: `from ${(threshold ?? told.threshold).toFixed(2)}` })] : [];
  return make("li", {}, make("label", {}, box, swatch(label), make("span", { textContent: name }), ...least));
}

function setAll(shown) {
  for (const row of at("classes").children) {
    if (row.hidden) continue; // of those that the search has left
    const box = row.querySelector("input");
    if (box.checked !== shown) box.click();
  }
}

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  for (const row of at("classes").children) row.hidden = !row.textContent.toLowerCase().includes(wanted);
}

// Arrow keys go from one image of a list to the next.
function stepThrough(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const row = event.target.closest("li");
  const next = step > 0 ? row?.nextElementSibling : step < 0 ? row?.previousElementSibling : null;
  if (!next) return;
  event.preventDefault();
  next.querySelector("button").focus();
  next.querySelector("button").click();
}

function setUp() {
  at("slider-label").textContent = kind.slider.label;
  at("best").hidden = !hasBest;
  at("classes").append(...told.classes.map(classRow));
  at("search").hidden = told.classes.length <= 12;
  at("way").replaceChildren(...Object.entries(WAYS).map(([value, { label }]) => make("option", { value, textContent: label })));
  at("examples").append(...told.examples.map(exampleRow));
  at("examples-box").hidden = !told.examples.length;
  at("slider").oninput = () => { state.slider = Number(at("slider").value); showSlider(); };
  at("best").onclick = () => { state.slider = null; showSlider(); };
  at("all").onclick = () => setAll(true);
  at("none").onclick = () => setAll(false);
  at("search").oninput = search;
  at("save").onclick = save;
  at("clear").onclick = clear;
  at("files").onchange = () => { add([...at("files").files]); at("files").value = ""; };
  at("camera").onclick = () => (state.live ? stopCamera() : startCamera());
  at("way").onchange = () => change(at("way").value);
  for (const strip of ["examples", "results"]) at(strip).onkeydown = stepThrough;
  takeDrops();
  new ResizeObserver(redraw).observe(at("viewer"));
  showSlider();
}

function exampleRow(file, i) {
  const button = make("button", { type: "button" }, make("img", { src: file, alt: `Example ${i + 1}` }));
  button.onclick = () => { if (state.engine) pick(button, file); };
  return make("li", {}, button);
}

function takeDrops() {
  const over = (on) => at("viewer").classList.toggle("over", on && Boolean(state.engine));
  document.ondragover = (event) => { event.preventDefault(); over(true); };
  document.ondragleave = (event) => { if (!event.relatedTarget) over(false); };
  document.ondrop = (event) => { event.preventDefault(); over(false); add(event.dataTransfer.files); };
  document.onpaste = (event) => add(event.clipboardData.files);
}

async function change(way) {
  at("way").disabled = true;
  try {
    await inTurn(() => use(way));
    clearNotices();
    if (state.current?.blob && !state.live) { await run(state.current); redraw(); }
  } catch (error) {
    refuse(way, error);
    at("way").value = state.engine.way;
    tell(`${WAYS[way].label} cannot be used: ${error.message}.`);
  }
  at("way").disabled = false;
}

function fail(sentence) {
  setState("failed");
  tell(sentence);
  at("hint-title").textContent = "The model cannot run";
  at("hint-text").textContent = "The reason is above.";
  at("way").replaceChildren(make("option", { textContent: "nothing" }));
}

async function openAny() {
  for (const way of Object.keys(WAYS)) {
    try {
      return await use(way);
    } catch (error) {
      refuse(way, error);
      if (way === "wasm") throw new Told(`The model cannot run in this browser (${error.message}).`);
    }
  }
}

async function start() {
  setState("loading");
  setUp();
  if (location.protocol === "file:") {
    return fail("Browsers load no models from files: run python -m http.server -d web in the folder above, and open http://localhost:8000.");
  }
  if (told.missing) return fail(told.missing);
  try {
    await loadModel();
    await openAny();
  } catch (error) {
    if (!(error instanceof Told)) console.error(error);
    return fail(error.message);
  }
  at("hint-title").textContent = "Drop images here";
  at("hint-text").textContent = "or choose or paste them, pick an example, or use the camera.";
  for (const id of ["way", "files", "camera"]) at(id).disabled = false;
  const [first] = document.querySelectorAll("#examples button");
  if (first) await pick(first, told.examples[0]);
  setState("ready");
}

start();
