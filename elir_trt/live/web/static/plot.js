// Stage times of the latest frames, stacked.

const FRAMES = 150;
const COLOURS = ["#4c8bf5", "#f2a33a", "#35a97c", "#c667c9", "#e0605e", "#8a7bf0", "#3fb6c8", "#b0963c", "#8b97a5", "#d77fa1"];

export function makePlot(canvas, legend) {
  const frames = [];
  const stages = [];
  const entries = new Map();

  function add(times) {
    const { total, ...parts } = times;
    // A GPU is told of a frame as a whole.
    if (total !== undefined && Object.keys(parts).length <= 1) parts.device = Math.max(0, total - (parts.launch ?? 0));
    for (const name of Object.keys(parts)) if (!stages.includes(name)) addStage(name);
    frames.push(parts);
    if (frames.length > FRAMES) frames.shift();
  }

  function addStage(name) {
    const item = document.createElement("li");
    const mark = document.createElement("i");
    const text = document.createElement("span");
    mark.style.background = COLOURS[stages.length % COLOURS.length];
    item.append(mark, text);
    legend.append(item);
    stages.push(name);
    entries.set(name, text);
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (!frames.length) return;
    const sums = frames.map((parts) => stages.reduce((sum, name) => sum + (parts[name] ?? 0), 0));
    const top = niceTop(Math.max(...sums));
    const step = width / FRAMES;
    const base = new Array(frames.length).fill(0);
    stages.forEach((name, index) => {
      context.fillStyle = COLOURS[index % COLOURS.length];
      frames.forEach((parts, at) => {
        const value = parts[name] ?? 0;
        const y = height * (1 - (base[at] + value) / top);
        context.fillRect((FRAMES - frames.length + at) * step, y, step + 0.5, (height * value) / top);
        base[at] += value;
      });
    });
    context.fillStyle = getComputedStyle(canvas).color;
    context.font = `${11 * ratio}px system-ui`;
    context.fillText(`${top} ms`, 4 * ratio, 12 * ratio);
    for (const name of stages) entries.get(name).textContent = `${name} ${median(name).toFixed(1)}`;
  }

  function median(name) {
    const values = frames.map((parts) => parts[name] ?? 0).sort((a, b) => a - b);
    return values[Math.floor(values.length / 2)] ?? 0;
  }

  return { add, draw };
}

function niceTop(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 0.1)));
  return Number([1, 2, 5, 10].map((times) => times * unit).find((top) => top >= value).toPrecision(3));
}
