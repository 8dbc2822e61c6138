// Calls to the service, and what their failures mean to the person using the page.

const MAX_WINDOW = 16384;

/** A failure in plain words: what happened, and what to do about it. */
export class Failure extends Error {
  constructor(title, advice, { retry = false } = {}) {
    super(title);
    this.advice = advice;
    this.retry = retry;
  }
}

export async function galleries(signal) {
  const answer = await call("/v1/galleries", { signal });
  return answer.galleries.map((gallery) => ({
    name: gallery.gallery,
    count: Number(gallery.count),
    pending: Number(gallery.pending),
    rejected: Number(gallery.deadLetters),
  }));
}

/** request: a SearchRequest in JSON, whose image is a file. Returns {hits, unknownWords,
 * milliseconds, complete}. */
export async function search(request, signal) {
  const { image, ...others } = { ...request, explain: true };
  const answer = await (image ? searchByImage(image, others, signal) : searchByJson(others, signal));
  return {
    hits: answer.hits,
    unknownWords: answer.explanation?.unknownWords ?? [],
    milliseconds: Math.max(1, Math.round(1000 * parseFloat(answer.took))),
    complete:
      answer.hits.length < request.topK || request.offset + 2 * request.topK > MAX_WINDOW,
  };
}

function searchByJson(request, signal) {
  const headers = { "Content-Type": "application/json" };
  return call("/v1/search", { method: "POST", headers, body: JSON.stringify(request), signal });
}

/** The file is the body, the other fields are in the address. */
function searchByImage(file, { gallery, ...others }, signal) {
  const query = new URLSearchParams({ gallery });
  for (const [name, value] of Object.entries(others)) query.set(name, JSON.stringify(value));
  // The service looks at the bytes and not at what kind of image a file claims to be.
  const headers = { "Content-Type": file.type.startsWith("image/") ? file.type : "image/unknown" };
  return call(`/v1/search?${query}`, { method: "POST", headers, body: file, signal });
}

/** The address of a kept image. A name is never a path: no segment may mean another folder. */
export function imageAddress(gallery, filename) {
  const segments = filename.split("/");
  const name = segments.some((segment) => ["", ".", ".."].includes(segment))
    ? encodeURIComponent(filename)
    : segments.map(encodeURIComponent).join("/");
  return `/v1/images/${encodeURIComponent(gallery)}/${name}`;
}

async function call(path, options) {
  let response;
  let answer;
  try {
    response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(
      "The service cannot be reached",
      "Check that it is running (make up, or kubectl get pods) and that you are online, then try again.",
      { retry: true },
    );
  }
  if (response.ok) return answer;
  const detail = sentence(answer.message ?? response.statusText);
  switch (answer.code) {
    case "INVALID_ARGUMENT":
      throw new Failure("This search is not possible", detail.replace(/^(Caption|Image): (.)/, (_, _field, first) => first.toUpperCase()));
    case "NOT_FOUND":
      throw new Failure("Not found", detail);
    case "FAILED_PRECONDITION":
      throw new Failure("The model of this gallery is not loaded", detail);
    case "RESOURCE_EXHAUSTED":
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
      throw new Failure("Something that searches need is unavailable", detail, { retry: true });
    default:
      throw new Failure("The search failed", `${detail} Try again; if it keeps failing, see the log of the query service.`, { retry: true });
  }
}

function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?)]$/.test(trimmed) ? "" : ".");
}
