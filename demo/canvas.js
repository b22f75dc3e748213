// The drawing is kept at the generator's size, and tools set only whole pixels, in the palette's colours.
const find = selector => element.querySelector(selector);
const canvas = find(".drawing"), context = canvas.getContext("2d", {willReadFrequently: true});
const [width, height] = props.size, isLabels = props.is_labels, output = find(".output"), status = find(".status");
const MAX_BYTES = 20 * 2 ** 20, MAX_PIXELS = 4096 * 4096;  // of an upload, of which only the canvas is sent
const undone = [];  // the drawing before each stroke
let color = "", tool = "", stroke = null, busy = false, waiting = false;

canvas.width = width;
canvas.height = height;
output.style.aspectRatio = width + " / " + height;

function say(text, isError) {
  status.textContent = text;
  status.classList.toggle("error", Boolean(isError));
}

async function redraw() {  // one drawing at a time is under way; of those that come meanwhile the last one counts
  waiting = busy;
  if (busy) return;
  busy = true;
  const answer = await server.translate(canvas.toDataURL("image/png")).catch(() => ({error: "The server refuses this drawing, or does not answer."}));
  if (!answer.error) output.src = answer.picture;
  say(answer.error || answer.milliseconds + " ms", answer.error);
  busy = false;
  if (waiting) redraw();
}

function remember() {
  undone.push(context.getImageData(0, 0, width, height));
  if (undone.length > 100) undone.shift();
  find(".undo").disabled = false;
}

function forget() {
  undone.length = 0;
  find(".undo").disabled = true;
}

function undo() {
  if (!undone.length || stroke) return;
  context.putImageData(undone.pop(), 0, 0);
  find(".undo").disabled = !undone.length;
  redraw();
}

async function begin(url) {  // puts a picture on the canvas, its middle where it has another shape
  const image = new Image();
  image.src = url;
  await new Promise((done, failed) => { image.onload = done; image.onerror = failed; });  // pixels are decoded later
  const [across, down] = [image.naturalWidth, image.naturalHeight];
  if (across * down > MAX_PIXELS) return say("The picture has " + across + " x " + down + " pixels; 4096 x 4096 is the most.", true);
  remember();
  const scale = Math.min(across / width, down / height);
  context.imageSmoothingEnabled = scale !== 1 && !isLabels;
  context.fillStyle = "white";  // shows where the picture is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(image, (across - scale * width) / 2, (down - scale * height) / 2, scale * width, scale * height,
                    0, 0, width, height);
  redraw();
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [Math.floor((event.clientX - box.left) * width / box.width),
          Math.floor((event.clientY - box.top) * height / box.height)];
}

function dab([x, y]) {  // a disc of whole pixels
  const radius = Number(find(".radius").value) / 2;
  for (let dy = -Math.floor(radius); dy <= radius; dy++) {
    const half = Math.floor(Math.sqrt(radius * radius - dy * dy));
    context.fillRect(x - half, y + dy, 2 * half + 1, 1);
  }
}

function extend(to) {
  context.fillStyle = color;
  if (tool === "rectangle") {
    context.putImageData(undone[undone.length - 1], 0, 0);
    const [left, top] = [Math.min(stroke[0], to[0]), Math.min(stroke[1], to[1])];
    context.fillRect(left, top, Math.abs(to[0] - stroke[0]) + 1, Math.abs(to[1] - stroke[1]) + 1);
    return;
  }
  const steps = Math.max(Math.abs(to[0] - stroke[0]), Math.abs(to[1] - stroke[1]), 1);
  for (let i = 0; i <= steps; i++)
    dab([0, 1].map(axis => Math.round(stroke[axis] + (to[axis] - stroke[axis]) * i / steps)));
  stroke = to;
}

canvas.onpointerdown = event => {
  if (event.button || stroke) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  stroke = place(event);
  extend(stroke);
};
canvas.onpointermove = event => stroke && extend(place(event));
canvas.onpointerup = canvas.onpointercancel = () => {
  if (!stroke) return;
  stroke = null;
  redraw();
};

function choose(button, siblings) {
  for (const other of element.querySelectorAll(siblings)) other.setAttribute("aria-pressed", other === button);
}

for (const [name, rgb] of Object.entries(props.palette)) {
  const button = document.createElement("button"), swatch = document.createElement("i");
  swatch.style.background = "rgb(" + rgb + ")";
  button.append(swatch, name);
  button.onclick = () => { color = swatch.style.background; choose(button, ".palette button"); };
  find(".palette").append(button);
}
for (const button of element.querySelectorAll(".tool"))
  button.onclick = () => { tool = button.dataset.tool; choose(button, ".tool"); };
for (const [name, url] of Object.entries(props.starts)) {
  const button = document.createElement("button"), image = document.createElement("img");
  image.src = url;
  image.alt = name;
  button.append(image);
  button.onclick = () => begin(url);
  find(".starts").append(button);
}
find(".undo").onclick = undo;
document.addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo(); }
});
find(".upload").onchange = event => {
  const file = event.target.files[0];
  event.target.blur();
  if (!file) return;
  event.target.value = "";  // the same file may come again
  if (file.size > MAX_BYTES) return say("The file has more than " + MAX_BYTES / 2 ** 20 + " MB.", true);
  const url = URL.createObjectURL(file);
  begin(url).catch(() => say("This is not a picture that the browser can read.", true)).finally(() => URL.revokeObjectURL(url));
};
for (const link of element.querySelectorAll(".save")) link.onclick = event => {
  link.href = link.dataset.of === "canvas" ? canvas.toDataURL("image/png") : output.src;
  link.download = link.dataset.of === "canvas" ? "drawing.png" : "picture.png";
  if (!link.getAttribute("href")) event.preventDefault();
};

find(isLabels ? "[data-tool=rectangle]" : "[data-tool=brush]").click();
if (!isLabels) find(".radius").value = 2;  // lines are thin
begin(Object.values(props.starts)[0]).then(() => {
  forget();
  const buttons = [...element.querySelectorAll(".palette button")];
  const ground = "rgb(" + context.getImageData(0, 0, 1, 1).data.slice(0, 3).join(", ") + ")";
  (buttons.find(button => button.textContent === "window") ||
   buttons.find(button => button.firstChild.style.background !== ground) || buttons[0]).click();
});
