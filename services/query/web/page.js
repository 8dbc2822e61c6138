// The page: the address holds the search, and every state says what to do next.

import { Failure, galleries, imageAddress, search } from "/api.js";
import * as results from "/results.js";

const EXAMPLES = [
  "a woman in an orange ankle-length dress with a black backpack",
  "a man in a red jacket and blue jeans",
  "a young woman with long blond hair, a white blouse and a dark skirt",
  "an old man in a grey coat with an umbrella",
];
const POLL_MS = 3000;

const $ = (id) => document.getElementById(id);
const { element } = results;

let known = []; // the galleries as last listed
let photo = null; // {file, address} of a photo to search with
let asked = null; // the last request, for the next page
let running = new AbortController();
let nextPoll = 0;
let listed = Promise.resolve(); // the first list of galleries, which chooses one

function fromAddress() {
  const query = new URLSearchParams(location.search);
  return {
    gallery: query.get("gallery") ?? "",
    caption: query.get("q") ?? "",
    like: query.get("like") ?? "",
    number: query.get("n") ?? "12",
    camera: query.get("camera") ?? "",
    from: query.get("from") ?? "",
    to: query.get("to") ?? "",
  };
}

function fromForm() {
  return {
    gallery: $("gallery").value,
    number: $("number").value,
    camera: $("camera").value.trim(),
    from: $("from").value,
    to: $("to").value,
  };
}

function intoForm(wanted) {
  $("caption").value = wanted.caption;
  $("number").value = wanted.number;
  if (!$("number").value) $("number").value = "12";
  $("camera").value = wanted.camera;
  $("from").value = wanted.from;
  $("to").value = wanted.to;
  if (narrowed(wanted)) $("narrow").open = true;
  offerGalleries(wanted.gallery);
}

function intoAddress(wanted) {
  const query = new URLSearchParams();
  const put = (name, value, unless = "") => value !== unless && query.set(name, value);
  put("gallery", wanted.gallery);
  put("q", wanted.caption);
  put("like", wanted.like);
  put("n", wanted.number, "12");
  put("camera", wanted.camera);
  put("from", wanted.from);
  put("to", wanted.to);
  const address = `/?${query}`.replace(/\?$/, "");
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
}

const narrowed = (wanted) => Boolean(wanted.camera || wanted.from || wanted.to);

function requestFor(wanted) {
  const filter = {};
  if (wanted.camera) {
    filter.cameras = wanted.camera.split(",").map((name) => name.trim()).filter(Boolean);
  }
  if (wanted.from) filter.capturedFrom = new Date(wanted.from).toISOString();
  if (wanted.to) filter.capturedTo = new Date(wanted.to).toISOString();
  const request = { gallery: wanted.gallery, topK: Number(wanted.number), offset: 0, filter };
  if (photo) return { ...request, image: photo.file };
  if (wanted.like) return { ...request, filename: wanted.like };
  return { ...request, caption: wanted.caption };
}

/** Runs the search that the address holds, and shows its answer. */
async function show() {
  // The form has what the address says, except for values that its fields do not take.
  const wanted = { ...fromAddress(), ...fromForm() };
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const title = wanted.caption || (wanted.like && `similar to ${wanted.like}`) || (photo && "similar to a photo");
  document.title = title ? `${title} - Passerby` : "Passerby";
  hideMessage();
  notice();
  $("more").hidden = true;
  if (!title) {
    asked = null;
    results.clear();
    view("start", "");
    showGalleryState();
    return;
  }
  asked = requestFor(wanted);
  view("loading", "Searching …");
  results.showLoading(asked.topK);
  try {
    const answer = await search(asked, signal);
    results.clear();
    showAnswer(answer, wanted);
  } catch (error) {
    if (error.name === "AbortError") return;
    results.clear();
    view("failed", "");
    showFailure(error);
  }
}

function showAnswer(answer, wanted) {
  const { total, first } = results.add(answer.hits, asked.gallery);
  $("more").hidden = answer.complete || total === 0;
  showWhatWasAsked(answer, wanted);
  if (total === 0) {
    view("empty", "");
    if (narrowed(wanted)) {
      showMessage("No match at this camera and time", "Change or clear the camera and time.", {
        name: "Clear camera and time",
        action: widen,
      });
    } else if (!showGalleryState()) {
      showMessage("No results", "This gallery has no other images. Choose another gallery above.");
    }
    return null;
  }
  const matches = total === 1 ? "1 match" : `${total} best matches, the most similar first`;
  view("answer", `${matches} · ${answer.milliseconds} ms`);
  return first;
}

function showWhatWasAsked(answer, wanted) {
  const parts = [];
  if (answer.unknownWords.length) {
    const words = element("strong", {}, answer.unknownWords.join(", "));
    parts.push(element("span", {}, "The model does not know: ", words, ". The search used the other words."));
  } else if (photo || wanted.like) {
    const name = photo ? "the one in your photo" : element("strong", {}, wanted.like);
    const back = element("button", { type: "button", className: "link" }, "Search with a caption instead");
    back.addEventListener("click", startAnew);
    const src = photo ? photo.address : imageAddress(wanted.gallery, wanted.like);
    const image = element("img", { src, alt: "" });
    image.addEventListener("error", () => image.remove());
    parts.push(image);
    parts.push(element("span", {}, "People similar to ", name), back);
  }
  notice(...parts);
}

async function showMore() {
  const { signal } = running;
  hideMessage();
  $("more").disabled = true;
  try {
    asked = { ...asked, offset: asked.offset + asked.topK };
    const answer = await search(asked, signal);
    showAnswer(answer, fromAddress())?.focus();
  } catch (error) {
    if (error.name !== "AbortError") {
      asked = { ...asked, offset: asked.offset - asked.topK };
      showFailure(error, showMore);
    }
  } finally {
    $("more").disabled = false;
  }
}

async function listGalleries() {
  try {
    known = await galleries();
  } catch (error) {
    if (!known.length) offerGalleries(fromAddress().gallery);
    if (!asked) showFailure(error, start);
    return false;
  }
  offerGalleries($("gallery").value || fromAddress().gallery);
  return true;
}

function offerGalleries(wanted) {
  const names = known.map(({ name }) => name);
  const largest = [...known].sort((a, b) => b.count - a.count)[0]?.name;
  const chosen = wanted || (names.includes("default") ? "default" : largest) || "";
  const options = known.map(({ name, count }) =>
    element("option", { value: name }, `${name} (${count.toLocaleString()})`),
  );
  if (chosen && !names.includes(chosen)) options.push(element("option", { value: chosen }, chosen));
  if (!options.length) options.push(element("option", { value: "" }, "none yet"));
  $("gallery").replaceChildren(...options);
  $("gallery").value = chosen;
  $("gallery").disabled = options.length < 2;
}

/** Shows why the gallery cannot be searched; returns whether there is a reason. */
function showGalleryState() {
  const name = $("gallery").value;
  const gallery = known.find((one) => one.name === name);
  if (gallery?.count) return false;
  const push = element("code", {}, `passerby push FOLDER --gallery ${name || "mine"}`);
  if (gallery?.rejected) {
    const why = element("code", {}, `passerby dead-letters --gallery ${name}`);
    showMessage("Nothing in this gallery could be indexed", [`${gallery.rejected} images or batches were rejected. To see why: `, why]);
  } else if (known.some(({ pending }) => pending)) {
    showMessage("The first images are on their way", "They are being indexed and will appear here automatically.");
  } else {
    showMessage(name ? "This gallery is empty" : "There is no gallery yet", ["To push a folder of images: ", push]);
  }
  pollSoon();
  return true;
}

function pollSoon() {
  clearTimeout(nextPoll);
  nextPoll = setTimeout(poll, POLL_MS);
}

/** Checks whether an empty gallery has been filled, as long as the page shows it. */
async function poll() {
  if (asked) return;
  if (document.hidden) pollSoon();
  else if (await listGalleries()) {
    hideMessage();
    showGalleryState();
  }
}

function view(name, status) {
  document.body.dataset.view = name;
  $("results").setAttribute("aria-busy", String(name === "loading"));
  $("status").textContent = status;
}

function notice(...parts) {
  $("notice").replaceChildren(...parts);
  $("notice").hidden = !parts.length;
}

function showFailure(error, again = show) {
  if (!(error instanceof Failure)) throw error;
  showMessage(error.message, error.advice, error.retry ? { name: "Try again", action: again } : null);
}

function showMessage(title, advice, button = null) {
  const parts = [element("h2", {}, title), element("p", {}, ...[advice].flat())];
  if (button) {
    const made = element("button", { type: "button", className: "quiet framed" }, button.name);
    made.addEventListener("click", button.action);
    parts.push(made);
  }
  $("message").replaceChildren(...parts);
  $("message").hidden = false;
}

function hideMessage() {
  $("message").hidden = true;
}

/** Searches for what the form says, or for another caption, image or photo. */
async function ask({ caption = $("caption").value, like = "", ofPhoto = false } = {}) {
  running.abort();
  $("caption").value = caption;
  if (!ofPhoto) forgetPhoto();
  await listed;
  intoAddress({ ...fromForm(), caption: caption.trim(), like });
  show();
}

function startAnew() {
  ask({ caption: "" });
  $("caption").focus();
}

function widen() {
  for (const id of ["camera", "from", "to"]) $(id).value = "";
  rerun();
}

/** The same search with the gallery, number, camera and time that the form has now. */
function rerun() {
  const { caption, like } = fromAddress();
  intoAddress({ ...fromForm(), caption, like });
  show();
}

function searchPhoto(file) {
  forgetPhoto();
  photo = { file, address: URL.createObjectURL(file) };
  ask({ caption: "", ofPhoto: true });
}

function forgetPhoto() {
  if (photo) URL.revokeObjectURL(photo.address);
  photo = null;
}

function listen() {
  results.setUp((filename) => {
    ask({ caption: "", like: filename });
    scrollTo({ top: 0 });
  });
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  for (const caption of EXAMPLES) {
    const example = element("button", { type: "button" }, caption);
    example.addEventListener("click", () => ask({ caption }));
    $("examples").append(example);
  }
  for (const id of ["gallery", "number", "camera", "from", "to"]) $(id).addEventListener("change", rerun);
  $("widen").addEventListener("click", widen);
  $("more").addEventListener("click", showMore);
  $("photo").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) searchPhoto($("file").files[0]);
    $("file").value = "";
  });
  const holdsFile = (event) => event.dataTransfer.types.includes("Files");
  addEventListener("dragover", (event) => holdsFile(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    searchPhoto(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) searchPhoto(event.clipboardData.files[0]);
  });
  addEventListener("popstate", () => {
    forgetPhoto();
    intoForm(fromAddress());
    show();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, select")) {
      event.preventDefault();
      $("caption").select();
    }
  });
  $("gallery").addEventListener("focus", () => asked && listGalleries());
}

async function start() {
  hideMessage();
  const { signal } = running;
  listed = listGalleries();
  if ((await listed) && !signal.aborted) show();
}

listen();
intoForm(fromAddress());
start();
