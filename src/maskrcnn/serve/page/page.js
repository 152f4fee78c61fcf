// A picture goes to /predict, and its objects are drawn over it. No library; names from the server are text, never HTML.

const at = (id) => document.getElementById(id);
const canvas = at("canvas"), tip = at("tip"), slider = at("threshold");
const probe = document.createElement("canvas").getContext("2d"); // asks whether a point lies in an outline
const LARGEST = 16e6; // pixels of a canvas that phones can still make

let answer = null; // what the server said; each instance gets its path and its area
let bitmap = null; // null where the browser cannot show the file (TIFF)
let fileName = "picture";
let hidden = new Set(); // labels
let lit = null; // the instance under the pointer or the focus
let asking = null; // the request that runs

const colour = (label, alpha = 1) => `hsl(${(label * 137.5 + 210) % 360} 85% 55% / ${alpha})`;
const score = (instance) => instance.score.toFixed(2);
const plural = (count, one, more) => `${count} ${count === 1 ? one : more}`;
const visible = () => answer.instances.filter((one) => one.score >= slider.valueAsNumber && !hidden.has(one.label));

// ---------------------------------------------------------------- asking

const health = await fetch("health").then((reply) => reply.json()).catch(() => null);
if (health) {
  at("model").textContent = `${health.model}: ${plural(health.classes.length, "class", "classes")}, on ${health.device}`;
  slider.min = health.score_threshold;
  say("Pictures go to this server and nowhere else; it keeps none.");
} else say("The server does not answer; is it still running?", true);

async function ask(file) {
  asking?.abort();
  const mine = (asking = new AbortController());
  say("Looking for objects ...");
  const form = new FormData();
  form.append("image", file);
  try {
    const [reply, picture] = await Promise.all([
      fetch(`predict?score_threshold=${slider.min}`, { method: "POST", body: form, signal: mine.signal }),
      createImageBitmap(file).catch(() => null),
    ]);
    const body = await reply.json();
    if (mine.signal.aborted) return;
    if (reply.ok) show(body, picture, file.name);
    else say(body.detail, true);
  } catch (error) {
    if (error.name !== "AbortError") say("The server does not answer; is it still running?", true);
  }
}

function say(sentence, wrong = false) {
  at("status").textContent = sentence;
  at("status").classList.toggle("wrong", wrong);
}

function show(body, picture, name) {
  bitmap?.close();
  [answer, bitmap, fileName, lit] = [body, picture, name || "picture", null];
  hidden = new Set([...hidden].filter((label) => body.instances.some((one) => one.label === label)));
  for (const one of answer.instances) Object.assign(one, outline(one));
  canvas.hidden = at("controls").hidden = false;
  at("drop").classList.add("small");
  listClasses();
  refresh();
}

function outline(one) {
  const [x0, y0, x1, y1] = one.box;
  const path = new Path2D();
  if (!one.polygons) path.rect(x0, y0, x1 - x0, y1 - y0);
  for (const ring of one.polygons ?? []) {
    for (let i = 0; i < ring.length; i += 2) i ? path.lineTo(ring[i], ring[i + 1]) : path.moveTo(ring[0], ring[1]);
    path.closePath();
  }
  return { path, area: (x1 - x0) * (y1 - y0) };
}

// ---------------------------------------------------------------- drawing

function draw() {
  if (!answer) return;
  const across = at("stage").clientWidth;
  const scale = Math.min(across / answer.width, (innerHeight * 0.78) / answer.height, 8);
  const dense = Math.min(devicePixelRatio || 1, Math.sqrt(LARGEST / (answer.width * answer.height)) / scale);
  canvas.style.width = `${Math.max(1, answer.width * scale)}px`;
  canvas.style.height = `${Math.max(1, answer.height * scale)}px`;
  canvas.width = Math.max(1, Math.round(answer.width * scale * dense));
  canvas.height = Math.max(1, Math.round(answer.height * scale * dense));
  paint(canvas.getContext("2d"), scale * dense, dense, lit);
}

function paint(context, scale, line, above) {
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.fillStyle = "#808080";
  context.fillRect(0, 0, answer.width, answer.height);
  if (bitmap) context.drawImage(bitmap, 0, 0, answer.width, answer.height);
  const seen = visible();
  for (const one of [...seen].reverse()) {
    const strong = one === above;
    context.fillStyle = colour(one.label, strong ? 0.6 : above ? 0.15 : 0.4);
    context.fill(one.path, "evenodd");
    context.lineWidth = ((strong ? 3 : 1.5) * line) / scale;
    context.strokeStyle = colour(one.label);
    context.stroke(one.path);
    for (const [x, y] of one.keypoints ?? []) context.fillRect(x - 2 / scale, y - 2 / scale, 4 / scale, 4 / scale);
  }
}

// ---------------------------------------------------------------- lists

function refresh() {
  at("shown").textContent = slider.valueAsNumber.toFixed(2);
  if (!answer) return;
  const seen = visible();
  if (!seen.includes(lit)) light(null);
  say(`${seen.length} of ${plural(answer.instances.length, "object", "objects")} shown, ${answer.width} x ${answer.height} pixels`);
  at("objects").replaceChildren(...seen.map((one) => {
    const button = make("button", { type: "button" }, swatch(one.label), make("span", {}, one.name), make("span", {}, score(one)));
    button.onfocus = button.onmouseenter = button.onclick = () => light(one);
    button.onblur = button.onmouseleave = () => light(null);
    one.button = button;
    return make("li", {}, button);
  }));
  draw();
}

function listClasses() {
  const names = new Map(answer.instances.map((one) => [one.label, one.name]));
  at("classes").replaceChildren(...[...names].sort((a, b) => a[0] - b[0]).map(([label, name]) => {
    const box = make("input", { type: "checkbox", checked: !hidden.has(label) });
    box.onchange = () => {
      box.checked ? hidden.delete(label) : hidden.add(label);
      refresh();
    };
    const count = answer.instances.filter((one) => one.label === label).length;
    return make("li", {}, make("label", {}, box, swatch(label), make("span", {}, name), make("span", {}, String(count))));
  }));
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function swatch(label) {
  const square = make("span", { className: "swatch" });
  square.style.background = colour(label);
  return square;
}

// ---------------------------------------------------------------- pointing

function light(one, place = null) {
  const before = lit;
  lit = one;
  tip.hidden = !one;
  if (one) {
    tip.textContent = `${one.name} ${score(one)}`;
    const scale = canvas.clientWidth / answer.width;
    const [x, y] = place ?? [((one.box[0] + one.box[2]) / 2) * scale, one.box[1] * scale];
    tip.style.left = `${Math.max(0, Math.min(canvas.offsetLeft + x + 12, at("stage").clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${canvas.offsetTop + Math.max(0, y - 34)}px`;
  }
  if (one === before) return;
  before?.button?.classList.remove("on");
  one?.button?.classList.add("on");
  draw();
}

function under(event) {
  if (!answer) return;
  const frame = canvas.getBoundingClientRect();
  const place = [event.clientX - frame.left, event.clientY - frame.top];
  const [x, y] = [(place[0] * answer.width) / frame.width, (place[1] * answer.height) / frame.height];
  const hits = visible().filter((one) => probe.isPointInPath(one.path, x, y, "evenodd"));
  light(hits.length ? hits.reduce((a, b) => (b.area < a.area ? b : a)) : null, place); // the small one lies on top
}

function step(event) {
  const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") light(null);
  const seen = answer ? visible() : [];
  if (!way || !seen.length) return;
  event.preventDefault();
  const from = lit ? seen.indexOf(lit) : way > 0 ? -1 : 0;
  light(seen[(from + way + seen.length) % seen.length]);
  lit.button.scrollIntoView({ block: "nearest" });
  at("focused").textContent = `${lit.name}, score ${score(lit)}`;
}

// ---------------------------------------------------------------- saving

function save(blob, suffix) {
  const link = make("a", { href: URL.createObjectURL(blob), download: fileName.replace(/\.\w+$/, "") + suffix });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveJson() {
  const instances = visible().map(({ path, area, button, ...rest }) => rest);
  save(new Blob([JSON.stringify({ ...answer, instances }, null, 1)], { type: "application/json" }), ".json");
}

function savePicture() {
  const scale = Math.min(1, Math.sqrt(LARGEST / (answer.width * answer.height)));
  const whole = make("canvas", { width: Math.ceil(answer.width * scale), height: Math.ceil(answer.height * scale) });
  paint(whole.getContext("2d"), scale, Math.max(1, Math.max(whole.width, whole.height) / 1000), null);
  whole.toBlob((blob) => save(blob, "_masks.png"), "image/png");
}

// ---------------------------------------------------------------- events

at("file").onchange = (event) => {
  if (event.target.files[0]) ask(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
};
document.ondragover = (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
};
document.ondragleave = () => at("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
};
document.onpaste = (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) ask(file);
};
slider.oninput = refresh;
canvas.onpointermove = canvas.onpointerdown = under;
canvas.onpointerleave = (event) => event.pointerType === "mouse" && light(null);
canvas.onkeydown = step;
canvas.onblur = () => light(null);
at("save-json").onclick = saveJson;
at("save-picture").onclick = savePicture;
new ResizeObserver(draw).observe(at("stage"));
