// The grid of people, and the viewer that opens one of them large.

import { imageAddress } from "/api.js";

const $ = (id) => document.getElementById(id);
const grid = $("results");
const viewer = $("viewer");

let shown = []; // {hit, gallery, open: the button in the grid}
let current = 0;
let onLike = () => {};

/** like: called with the filename of an image when others like it are wanted. */
export function setUp(like) {
  onLike = like;
  grid.addEventListener("keydown", moveInGrid);
  viewer.addEventListener("keydown", moveInViewer);
  viewer.addEventListener("close", () => shown[current]?.open.focus());
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close(); // the backdrop
  });
  $("viewer-close").addEventListener("click", () => viewer.close());
  $("viewer-back").addEventListener("click", () => view(current - 1));
  $("viewer-next").addEventListener("click", () => view(current + 1));
  $("viewer-like").addEventListener("click", () => {
    viewer.close();
    onLike(shown[current].hit.filename);
  });
}

export function clear() {
  shown = [];
  grid.replaceChildren();
}

/** Placeholders while an answer is on its way. */
export function showLoading(number) {
  clear();
  const waiting = Array.from({ length: number }, () => element("li", { className: "waiting" }));
  grid.replaceChildren(...waiting);
}

/** Adds the hits that are not shown yet; returns how many people are shown then. */
export function add(hits, gallery) {
  const known = new Set(shown.map(({ hit }) => hit.filename));
  const first = shown.length;
  for (const hit of hits) {
    if (known.has(hit.filename)) continue;
    const item = tile(hit, gallery, shown.length);
    shown.push({ hit, gallery, open: item.querySelector(".open") });
    grid.append(item);
  }
  return { total: shown.length, first: shown[first]?.open };
}

function tile(hit, gallery, index) {
  const image = element("img", {
    alt: `Match ${index + 1}: ${hit.filename}`,
    src: imageAddress(gallery, hit.filename),
    loading: index < 24 ? "eager" : "lazy",
    decoding: "async",
  });
  const open = element("button", { type: "button", className: "open" }, image);
  image.addEventListener("error", () => open.classList.add("missing"));
  open.addEventListener("click", () => view(index));
  const like = element("button", { type: "button", className: "like" }, "More like this");
  like.addEventListener("click", () => onLike(hit.filename));
  const where = [hit.camera, when(hit)].filter(Boolean).join(" · ");
  const end = hit.filename.lastIndexOf("/") + 1; // the folder may be cut short, the name less so
  const caption = element(
    "figcaption",
    {},
    element("span", { className: "score", title: "Cosine similarity, at most 1" }, score(hit)),
    element("span", { className: "where", title: where }, where),
    element(
      "span",
      { className: "name", title: hit.filename },
      element("span", {}, hit.filename.slice(0, end)),
      element("span", {}, hit.filename.slice(end)),
    ),
    like,
  );
  return element("li", {}, element("figure", {}, open, caption));
}

function view(index) {
  if (!shown[index]) return;
  current = index;
  const { hit, gallery } = shown[index];
  const image = $("viewer-image");
  image.parentElement.classList.remove("missing");
  image.onerror = () => image.parentElement.classList.add("missing");
  image.alt = `Match ${index + 1}: ${hit.filename}`;
  image.src = imageAddress(gallery, hit.filename);
  $("viewer-name").textContent = hit.filename;
  $("viewer-file").href = image.src;
  const details = [
    ["Match", `${index + 1} of ${shown.length}`],
    ["Similarity", score(hit)],
    ["Camera", hit.camera],
    ["Captured", when(hit)],
    ["Gallery", gallery],
    ...Object.entries(hit.tags ?? {}).sort(),
  ];
  $("viewer-details").replaceChildren(
    ...details
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
  $("viewer-back").disabled = index === 0;
  $("viewer-next").disabled = index === shown.length - 1;
  if (!viewer.open) viewer.showModal();
}

function moveInViewer(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    view(current + step);
  }
}

function moveInGrid(event) {
  const at = shown.findIndex(({ open }) => open.closest("li").contains(document.activeElement));
  if (at < 0) return;
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const to = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at - columns,
    ArrowDown: Math.min(at + columns, Math.max(at, shown.length - 1)),
    Home: 0,
    End: shown.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  shown[to]?.open.focus();
}

function score(hit) {
  return hit.score.toFixed(3);
}

function when(hit) {
  if (!hit.capturedAt) return "";
  return new Date(hit.capturedAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** Text goes in as text: a filename may hold anything. */
export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter(Boolean));
  return made;
}
