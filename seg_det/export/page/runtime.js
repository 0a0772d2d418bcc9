// The model: what the page is told of it, ONNX Runtime Web that runs it, and images as it takes them.

const told = JSON.parse(document.getElementById("told").textContent);
const WAYS = {
  webgpu: { label: "WebGPU", script: "ort.webgpu.bundle.min.mjs" },
  wasm: { label: "WebAssembly", script: "ort.wasm.bundle.min.mjs" },
};
const MOST_THREADS = 4; // small networks gain nothing from more
const PROBE = { width: 160, height: 120 };

// A sentence for whoever uses the page; every other error is a fault of this page or of the browser.
class Told extends Error {}

const inFolder = (name) => new URL(name, document.baseURI).href;

let modelBytes = null;

async function loadModel() {
  const answer = await fetch(inFolder(told.model)).catch(() => null);
  if (!answer?.ok) {
    throw new Told(`${told.model} cannot be loaded (${answer ? answer.status : "no answer"}): copy the whole folder of the export.`);
  }
  modelBytes ??= new Uint8Array(await answer.arrayBuffer());
}

// Why the browser cannot run the model this way, or null.
async function obstacle(way) {
  if (way !== "webgpu") return null;
  if (!navigator.gpu) return "this browser has no WebGPU";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return adapter ? null : "no graphics adapter";
}

// A session that has run once: a driver that fails does so here, and not on the first image.
async function openEngine(way) {
  const reason = await obstacle(way);
  if (reason) throw new Told(reason);
  const ort = await import(inFolder(`${told.runtime}/${WAYS[way].script}`));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  const session = await ort.InferenceSession.create(modelBytes.slice(), { executionProviders: [way], logSeverityLevel: 3 });
  const engine = { way, ort, session };
  try {
    await infer(engine, { ...PROBE, pixels: new Uint8Array(PROBE.width * PROBE.height * 3).fill(114) });
  } catch (error) {
    await session.release().catch(() => {});
    throw error;
  }
  return engine;
}

// The model's outputs by name, { data, dims } each, and how long they took.
async function infer(engine, image) {
  const { ort, session } = engine;
  const tensor = new ort.Tensor("uint8", image.pixels, [image.height, image.width, 3]);
  const start = performance.now();
  const found = await session.run({ [session.inputNames[0]]: tensor });
  const ms = performance.now() - start;
  const outputs = {};
  for (const [name, value] of Object.entries(found)) {
    outputs[name] = { data: value.data, dims: value.dims };
    if (value.data instanceof Float32Array && !value.data.every(Number.isFinite)) {
      throw new Error(`the output ${name} is not finite`);
    }
  }
  return { outputs, ms };
}

// The picture in a file, upright, its pixels as they are stored: no colour profile, no premultiplied transparency.
async function decode(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Told(`${file.name} cannot be read as an image: give a JPEG, PNG, WebP, BMP, GIF or AVIF file.`);
  }
}

const scratch = document.createElement("canvas");
const scratchPen = scratch.getContext("2d", { willReadFrequently: true });

// RGB of a picture or of a video's present frame.
function pixelsOf(source, width, height, name) {
  scratch.width = width;
  scratch.height = height;
  let rgba;
  try {
    scratchPen.drawImage(source, 0, 0, width, height);
    rgba = scratchPen.getImageData(0, 0, width, height).data;
  } catch {
    throw new Told(`${name} has ${width} x ${height} pixels, too many for this browser: make it smaller.`);
  }
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    pixels[to] = rgba[from];
    pixels[to + 1] = rgba[from + 1];
    pixels[to + 2] = rgba[from + 2];
  }
  return { width, height, pixels };
}
