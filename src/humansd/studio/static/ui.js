// Small helpers: elements, messages, dialogs, files.

export const $ = (id) => document.getElementById(id);

// el("button", {class: "main", onclick: f}, "text", child) -> element
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function toast(message, kind = "") {
  const note = el("p", { class: `toast ${kind}` }, message);
  $("toasts").append(note);
  setTimeout(() => note.remove(), (kind === "error" ? 9000 : 4000) + 40 * message.length); // as long as it takes to read
}

const told = new Set(); // each note of the server is shown once
export const noteText = (note) => note.replace(/; GET \/v1\/words lists .*/, "; “Words” lists them");

export function tellNotes(notes = []) {
  const news = notes.filter((note) => !told.has(note));
  news.forEach((note) => told.add(note));
  if (news.length) toast(news.map(noteText).join("\n"));
}

export const status = (text) => { $("status").textContent = text; };

export function openDialog(title, ...content) {
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...content);
  if (!$("dialog").open) $("dialog").showModal();
}

export const closeDialog = () => $("dialog").close();

export function setUpDialog() {
  $("dialog-close").addEventListener("click", closeDialog);
  $("dialog").addEventListener("click", (event) => { if (event.target === $("dialog")) closeDialog(); });
}

// The file that the user chooses.
export function chooseFile(accept) {
  return new Promise((done) => {
    const input = $("file");
    input.value = "";
    input.accept = accept;
    input.onchange = () => { if (input.files[0]) done(input.files[0]); };
    input.click();
  });
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

export const pngUrl = (base64) => URL.createObjectURL(new Blob([bytesOf(base64)], { type: "image/png" }));

export function loadImage(url) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error("the image cannot be shown"));
    image.src = url;
  });
}

export async function base64Of(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
