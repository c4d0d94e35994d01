// The page of a live run. Pictures and numbers come over one WebSocket; see docs/live.md for its messages.

import { makeDivider } from "./divider.js";
import { makePlot } from "./plot.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const plot = makePlot(byId("plot"), byId("legend"));
const settled = { first: 500, longest: 10000 };

let socket = null;
let tries = 0;
let clock = null; // Of the server less this page's, in ms, from the quickest answer so far.
let newest = null; // A picture that came while another was decoded.
let decoding = false;
let latencies = [];
let changed = false; // Whether there is something new to draw in the plot.

makeDivider(stage, byId("divider"));

// The connection

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    tries = 0;
    clock = null;
    send({ type: "view", compare: byId("compare").checked });
    ping();
  });
  socket.addEventListener("message", (event) => {
    if (typeof event.data === "string") take(JSON.parse(event.data));
    else receive(event.data);
  });
  socket.addEventListener("close", () => {
    showState("disconnected", "");
    const wait = Math.min(settled.longest, settled.first * 2 ** tries) * (0.5 + 0.5 * Math.random());
    tries += 1;
    setTimeout(connect, wait);
  });
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function ping() {
  send({ type: "ping", sent: performance.now() });
}

function take(message) {
  if (message.type === "stats") showStats(message);
  else if (message.type === "settings") showSettings(message);
  else if (message.type === "error") showError(message.message);
  else if (message.type === "pong") setClock(message);
}

// The server's clock is what it says, half of the way back ago. The quickest answer is the truest.
function setClock({ sent, now_ms: theirs }) {
  const now = performance.now();
  const round = now - sent;
  if (clock === null || round <= clock.round) clock = { round, offset: theirs - (sent + now) / 2 };
}

// Pictures

function receive(data) {
  const view = new DataView(data);
  const length = view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const start = 4 + length;
  const picture = {
    header,
    before: header.before ? new Blob([new Uint8Array(data, start, header.before)], { type: "image/jpeg" }) : null,
    after: new Blob([new Uint8Array(data, start + header.before, header.after)], { type: "image/jpeg" }),
  };
  if (decoding) newest = picture;
  else show(picture);
}

async function show(picture) {
  decoding = true;
  try {
    const [after, before] = await Promise.all([
      createImageBitmap(picture.after),
      picture.before ? createImageBitmap(picture.before) : null,
    ]);
    const { width, height } = after;
    draw(byId("after"), after, width, height);
    if (before) draw(byId("before"), before, width, height);
    byId("waiting").hidden = true;
    measure(picture.header);
  } catch (error) {
    showError(`A picture could not be shown: ${error.message}`);
  } finally {
    // Whoever has drawn one is ready for the next.
    send({ type: "shown", id: picture.header.id });
    decoding = false;
  }
  if (newest !== null) {
    const next = newest;
    newest = null;
    show(next);
  }
}

// Both canvases have the restored picture's size, so that they lie on each other where it is larger.
function draw(canvas, bitmap, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
}

function measure(header) {
  byId("rung").textContent = header.rung;
  plot.add(header.stages);
  changed = true;
  if (clock === null || document.hidden) return;
  // What was drawn is on the screen with the browser's next frame.
  requestAnimationFrame(() => {
    latencies.push(performance.now() + clock.offset - header.captured_ms);
    if (latencies.length > 300) latencies.shift();
  });
}

function percentiles() {
  const ordered = [...latencies].sort((a, b) => a - b);
  const at = (p) => Math.max(0, ordered[Math.min(ordered.length - 1, Math.ceil((p * ordered.length) / 100) - 1)]);
  return ordered.length ? { p50: at(50), p95: at(95), p99: at(99) } : null;
}

// Numbers

function showStats(stats) {
  showState(stats.state, stats.reason);
  for (const name of ["fps", "captured_fps"]) byId(name).textContent = stats[name].toFixed(1);
  for (const name of ["failed", "unrestored", "reconnects", "viewers", "lost"]) byId(name).textContent = stats[name];
  for (const [reason, count] of Object.entries(stats.dropped)) byId(`dropped_${reason}`).textContent = count;
  showLatency("latency_result", stats.latency_ms);
  const own = percentiles();
  if (own !== null) {
    showLatency("latency_display", own);
    send({ type: "latency", ...own });
  }
}

function showLatency(id, found) {
  const cells = byId(id).querySelectorAll("td");
  ["p50", "p95", "p99"].forEach((name, at) => {
    cells[at].textContent = found[name] === undefined ? "–" : found[name].toFixed(1);
  });
}

function showState(state, reason) {
  const badge = byId("state");
  badge.textContent = reason ? `${state}: ${reason}` : state;
  badge.classList.toggle("live", state === "live");
}

function showError(text) {
  const place = byId("error");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(showError.timer);
  showError.timer = setTimeout(() => { place.hidden = true; }, 8000);
}

// Settings

function showSettings(settings) {
  byId("title").textContent = `${settings.title}, ${settings.source}`;
  const [least, most] = settings.allowed.steps;
  Object.assign(byId("steps"), { min: least, max: most });
  byId("steps").value = settings.steps;
  byId("steps").disabled = least === most;
  byId("steps_value").textContent = settings.steps;
  for (const name of ["noise", "temporal", "bundle"]) {
    const select = byId(name);
    select.replaceChildren(...settings.allowed[name].map((value) => new Option(value, value)));
    select.value = settings[name];
    select.disabled = settings.allowed[name].length < 2;
  }
}

byId("controls").addEventListener("change", (event) => {
  const { name, value } = event.target;
  send({ type: "set", changes: { [name]: name === "steps" ? Number(value) : value } });
});
byId("steps").addEventListener("input", (event) => { byId("steps_value").textContent = event.target.value; });
byId("controls").addEventListener("submit", (event) => event.preventDefault());

// Buttons

byId("compare").addEventListener("change", (event) => {
  stage.classList.toggle("single", !event.target.checked);
  send({ type: "view", compare: event.target.checked });
});

byId("snapshot").addEventListener("click", async () => {
  const answer = await fetch("/snapshot.png");
  if (!answer.ok) {
    showError(await answer.text());
    return;
  }
  const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1] ?? "snapshot.png";
  save(await answer.blob(), name);
});

let recorder = null;

byId("record").addEventListener("click", () => {
  if (recorder !== null) {
    recorder.stop();
    return;
  }
  const type = ["video/mp4", "video/webm"].find((kind) => window.MediaRecorder?.isTypeSupported(kind));
  if (type === undefined) {
    showError("This browser cannot record. elir-trt live -o FILE records on the other side.");
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(byId("after").captureStream(), { mimeType: type, videoBitsPerSecond: 8e6 });
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    recorder = null;
    setRecording(false);
    save(new Blob(parts, { type }), `elir-${new Date().toISOString().replace(/[:.]/g, "")}.${type.slice(6)}`);
  });
  recorder.start(1000);
  setRecording(true);
});

function setRecording(on) {
  byId("record").setAttribute("aria-pressed", String(on));
  byId("record").textContent = on ? "Stop recording" : "Record";
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

byId("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else stage.requestFullscreen?.().catch((error) => showError(error.message));
});

setInterval(ping, 5000);
setInterval(() => {
  if (changed) plot.draw();
  changed = false;
}, 250);
connect();
