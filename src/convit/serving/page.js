"use strict";
const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
const percent = (score) => (score >= 0.9995 ? 100 : 100 * score).toFixed(1) + " %";
const model = () => settings.models.find((each) => !$("model") || each.id === $("model").value);
let key = sessionStorage.getItem("convit-key") || "";
const cards = []; // one for each image
let chosen = null; // the result that is examined
let look = null; // its explanation
let asked = 0; // counts what was asked for, so that late answers are dropped
let late = 0; // the timer of a patch that is asked for with a delay

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

async function call(path, file, parameters = {}) {
  const headers = { "Content-Type": "application/octet-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(`v1/${path}?${new URLSearchParams(parameters)}`, { method: "POST", body: file, headers });
  } catch {
    throw new Error("The service cannot be reached; is it still running?");
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401 && $("key")) $("key").focus();
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `The service answered ${answer.status}.`);
}

// Images come by choice, camera, drop or paste

function add(files) {
  const images = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
  $("problem").textContent = images.length < files.length ? "Files that are not images were skipped." : "";
  const added = images.map(makeCard);
  cards.push(...added);
  $("clear").hidden = !cards.length;
  classifyAll(added);
}

async function classifyAll(some) {
  for (const card of some) await classify(card);
}

function again() {
  forget();
  classifyAll([...cards]);
}

function forget() {
  chosen = look = null;
  clearTimeout(late);
  asked++;
}

function makeCard(file) {
  const picture = element("button", { className: "pick", type: "button" });
  picture.setAttribute("aria-label", `Examine ${file.name}`);
  const time = element("span", { textContent: "…" });
  const answer = element("div");
  const title = element("h3", {}, element("bdi", { textContent: file.name, title: file.name }), time);
  const card = { file, time, answer, picture, node: element("li", { className: "card result" }, title, picture, answer) };
  picture.onclick = () => choose(card);
  $("results").append(card.node);
  preview(file, picture);
  return card;
}

async function preview(file, picture) {
  try {
    const image = await createImageBitmap(file);
    const scale = 192 / Math.min(image.width, image.height);
    const canvas = element("canvas", { width: image.width * scale, height: image.height * scale });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    picture.replaceChildren(canvas);
  } catch {
    picture.textContent = "no preview";
  }
}

async function classify(card) {
  const start = performance.now();
  card.failed = false;
  try {
    if (card.file.size > settings.bytes) throw new Error(`The file is larger than ${settings.bytes >> 20} MiB; scale it down.`);
    const found = model().classes ? await call("classify", card.file, { top_k: 5, model: model().id }) : null;
    const predictions = found ? found.results[0].predictions : [];
    card.time.textContent = found ? `${(performance.now() - start).toFixed(0)} ms` : "";
    card.answer.replaceChildren(found ? bars(predictions) : "This model has no classes.");
    $("said").textContent = found ? `${card.file.name}: ${predictions[0].label}, ${percent(predictions[0].score)}` : "";
  } catch (error) {
    card.failed = true;
    card.time.textContent = "";
    card.answer.replaceChildren(element("p", { className: "problem", textContent: error.message }));
    $("said").textContent = `${card.file.name}: ${error.message}`;
    return;
  }
  if (!chosen) await choose(card);
}

function bars(predictions) {
  const rows = predictions.map(({ label, score }) => {
    const fill = element("i");
    fill.style.width = `${100 * score}%`;
    const bar = element("span", { className: "bar" }, fill);
    bar.setAttribute("aria-hidden", "true");
    const number = element("span", { className: "number", textContent: percent(score) });
    return element("li", {}, element("bdi", { textContent: label, title: label }), number, bar);
  });
  return element("ol", { className: "classes" }, ...rows);
}

// One of them is examined

async function choose(card, query = "center") {
  if (card.failed) return;
  clearTimeout(late);
  const number = ++asked;
  chosen?.node.classList.remove("chosen");
  chosen = card;
  card.node.classList.add("chosen");
  const explains = model().explains;
  $("looking").hidden = false;
  $("no-look").hidden = explains;
  $("look").hidden = $("gates").hidden = !explains;
  const work = [explains && explain(card, query, number), settings.has_index && query === "center" && search(card, number)];
  await Promise.all(work).catch((error) => number === asked && ($("problem").textContent = error.message));
}

async function explain(card, query, number) {
  const found = await call("explain", card.file, { model: model().id, query, top_k: 5 });
  if (number !== asked) return;
  $("seen").src = found.image;
  await $("seen").decode();
  if (number !== asked) return;
  const kept = look && look.model === found.model;
  look = found;
  $("stack").classList.toggle("few", $("seen").naturalWidth < 128);
  const options = found.predictions.filter((each) => each.map);
  const shown = kept ? $("show").value : "";
  $("show").replaceChildren(
    ...options.map(({ label, score }, at) => element("option", { value: `class:${at}`, textContent: `Why ${label}? (${percent(score)})` })),
    element("option", { value: "rollout", textContent: "Attention through all layers" }),
    element("option", { value: "attention", textContent: "Attention of one layer" }),
    element("option", { value: "image", textContent: "The image as the model sees it" }),
  );
  if ([...$("show").options].some((option) => option.value === shown)) $("show").value = shown;
  $("layer").max = found.layers.length;
  if (!kept) $("layer").value = found.layers.length;
  showGates();
  show();
}

function floats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

const KINDS = { blended: "content and position, blended by the gate", content: "content", position: "position", class_token: "the class token" };

function currentMap() {
  const [rows, columns] = look.grid, size = rows * columns, what = $("show").value;
  for (const each of document.querySelectorAll("[data-of]")) each.hidden = what !== "attention";
  if (what === "image") return [null, "The model's input: resized and cropped."];
  if (what === "rollout") return [floats(look.rollout), "How much of each patch reaches the output, through all layers."];
  if (what !== "attention") {
    const { label, map } = look.predictions[Number(what.slice(6))];
    return [floats(map), `Evidence for ${label}: attention, weighted by its contribution to this class.`];
  }
  const layer = look.layers[$("layer").value - 1], kinds = Object.keys(layer.maps).reverse();
  if (layer.gates) kinds.sort((a, b) => Object.keys(KINDS).indexOf(a) - Object.keys(KINDS).indexOf(b));
  const names = kinds.map((kind) => (layer.gates || kind === "class_token" ? KINDS[kind] : "the marked patch"));
  const kind = kinds.includes($("kind").value) ? $("kind").value : kinds[0];
  $("kind").replaceChildren(...kinds.map((value, at) => element("option", { value, textContent: names[at] })));
  $("kind").value = kind;
  const all = floats(layer.maps[kind]), heads = all.length / size;
  $("head").max = heads;
  const head = Number($("head").value), values = new Float32Array(size);
  for (let at = 0; at < all.length; at++) {
    if (head === 0) values[at % size] += all[at] / heads;
    else if (Math.floor(at / size) === head - 1) values[at % size] = all[at];
  }
  const gate = layer.gates && (head ? layer.gates[head - 1] : layer.gates.reduce((sum, each) => sum + each, 0) / heads);
  const by = kind === "class_token" ? "the class token attends to" : `the patch in row ${look.query[0] + 1}, column ${look.query[1] + 1} attends to`;
  const told = gate === null ? "" : ` Gate ${gate.toFixed(2)}: ${Math.round(100 * gate)} % by position.`;
  return [values, `What ${by} in layer ${layer.number}, ${head ? `head ${head}` : "mean of the heads"}.${told}`, kind !== "class_token"];
}

function show() {
  if (!look) return;
  const [values, told, ofPatch] = currentMap(), [rows, columns] = look.grid;
  $("told").textContent = told;
  $("stack").setAttribute("aria-label", told);
  $("stack").classList.toggle("mapped", Boolean(values));
  $("stack").classList.toggle("asks", Boolean(ofPatch));
  $("map").hidden = !values;
  $("mark").hidden = $("hint").hidden = !ofPatch;
  Object.assign($("mark").style, { left: `${(100 * look.query[1]) / columns}%`, top: `${(100 * look.query[0]) / rows}%` });
  Object.assign($("mark").style, { width: `${100 / columns}%`, height: `${100 / rows}%` });
  if (values) paint($("map"), values, rows, columns);
  for (const name of ["layer", "head"]) {
    const value = $(name).value, text = name === "head" && value === "0" ? "mean" : value;
    document.querySelector(`output[for=${name}]`).textContent = text;
    $(name).setAttribute("aria-valuetext", text);
  }
}

function paint(canvas, values, rows, columns, opaque = false) {
  const peak = values.reduce((most, each) => Math.max(most, each), 0) || 1, pixels = new ImageData(columns, rows);
  values.forEach((value, at) => {
    const share = value / peak; // the more, the less of the image shows through
    pixels.data.set([...settings.colors[Math.round(255 * share)], opaque ? 255 : 70 + 150 * share], 4 * at);
  });
  Object.assign(canvas, { width: columns, height: rows });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function showGates() {
  const gated = look.layers.filter((layer) => layer.gates);
  $("gates").hidden = !gated.length;
  if (!gated.length) return;
  const title = (textContent, scope) => element("th", { textContent, scope });
  const head = element("tr", {}, title("", "col"), ...gated[0].gates.map((_, at) => title(`head ${at + 1}`, "col")));
  const rows = gated.map(({ number, gates }) => {
    const cells = gates.map((gate) => {
      const cell = element("td", { textContent: gate.toFixed(2) });
      cell.style.background = `color-mix(in srgb, var(--blue) ${Math.round(70 * gate)}%, transparent)`;
      return cell;
    });
    return element("tr", {}, title(`layer ${number}`, "row"), ...cells);
  });
  $("gate-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

async function search(card, number) {
  const { results } = await call("search", card.file, { k: 8, thumbnails: true });
  if (number !== asked) return;
  $("near").hidden = false;
  const items = results.map(({ path, score, label, thumbnail }) => {
    const image = thumbnail ? element("img", { src: thumbnail, alt: "" }) : "gone";
    const name = element("bdi", { textContent: path });
    const told = element("div", { className: "soft", textContent: `${label ? `${label}, ` : ""}similarity ${score.toFixed(3)}` });
    return element("li", {}, element("div", { className: "frame" }, image), element("figcaption", {}, name, told));
  });
  $("found").replaceChildren(...items);
}

// Input

for (const input of [$("files"), $("camera")])
  input.onchange = () => {
    add(input.files);
    input.value = "";
  };
addEventListener("paste", (event) => event.clipboardData?.files.length && add(event.clipboardData.files));
for (const name of ["dragover", "dragleave", "drop"])
  addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") add(event.dataTransfer.files);
  });
for (const name of ["show", "layer", "head", "kind"]) $(name).oninput = show;
$("clear").onclick = () => {
  $("results").replaceChildren();
  cards.length = 0;
  forget();
  for (const name of ["looking", "gates", "near", "clear"]) if ($(name)) $(name).hidden = true;
};
if ($("model")) $("model").onchange = again;
function ask(row, column) {
  const [rows, columns] = look.grid;
  look.query = [Math.min(rows - 1, Math.max(0, row)), Math.min(columns - 1, Math.max(0, column))];
  show();
  clearTimeout(late);
  late = setTimeout(() => choose(chosen, look.query.join(",")), 150);
}
$("stack").onclick = (event) => {
  if (!$("stack").classList.contains("asks")) return;
  const box = $("stack").getBoundingClientRect(), [rows, columns] = look.grid;
  ask(Math.floor((rows * (event.clientY - box.top)) / box.height), Math.floor((columns * (event.clientX - box.left)) / box.width));
};
$("stack").onkeydown = (event) => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step || !$("stack").classList.contains("asks")) return;
  event.preventDefault();
  ask(look.query[0] + step[0], look.query[1] + step[1]);
};
if ($("key-form"))
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    key = $("key").value.trim();
    sessionStorage.setItem("convit-key", key);
    $("key-told").textContent = key ? "Kept until this tab is closed." : "";
    again();
  };
if (settings.colors.length) paint($("scale"), Float32Array.from({ length: 256 }, (_, at) => at), 1, 256, true);
