// The camera: each frame is drawn once its predictions are there, so both belong together.

const REASONS = {
  NotAllowedError: "The camera was not allowed: allow it for this page in the browser's settings.",
  NotFoundError: "There is no camera: connect one, or choose images.",
  NotReadableError: "The camera cannot be read: another program may be using it.",
};

async function startCamera() {
  clearNotices();
  if (!navigator.mediaDevices) return tell("Browsers give the camera to secure pages only: use https, or http://localhost.");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
    const video = make("video", { muted: true, playsInline: true, srcObject: stream });
    const live = { stream, video, times: [], shown: [] };
    state.live = live;
    stream.getVideoTracks()[0].onended = () => { if (state.live === live) { stopCamera(); tell("The camera was disconnected."); } };
    await video.play();
    at("camera").textContent = "Stop the camera";
    showLive(true);
    await watch(live);
  } catch (error) {
    stopCamera();
    tell(REASONS[error.name] ?? `The camera cannot be used (${error.message}).`);
  }
}

async function watch(live) {
  while (state.live === live) {
    await new Promise(requestAnimationFrame);
    const { videoWidth: width, videoHeight: height } = live.video;
    if (!width || state.live !== live) continue;
    const { outputs, ms } = await predict(pixelsOf(live.video, width, height, "The camera's picture"), "The camera's picture");
    if (state.live !== live) return;
    live.times = [...live.times, ms].slice(-30);
    live.shown = [...live.shown, performance.now()].slice(-30);
    state.current = null;
    state.picture = { source: scratch, size: { width, height }, found: kind.read(outputs) };
    draw();
  }
}

function stopCamera() {
  const { live } = state;
  if (!live) return;
  state.live = null;
  live.stream.getTracks().forEach((track) => track.stop());
  at("camera").textContent = "Use the camera";
  if (state.picture?.source === scratch) { // which the next image overwrites
    const still = make("canvas");
    paint(still, scratch, state.picture.size, null, view, { scale: 1, unit: 1 });
    state.picture.source = still;
  }
  showLive(false);
}

function showLive(on) {
  at("camera").setAttribute("aria-pressed", on);
  at("summary").setAttribute("aria-live", on ? "off" : "polite"); // or a screen reader would read every frame
  at("rate-box").hidden = !on;
  for (const button of document.querySelectorAll(".strip button")) button.setAttribute("aria-current", "false");
}
