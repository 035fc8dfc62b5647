// Requests to the /dlq routes with the operator's token, which is kept for this tab only.

export class Problem extends Error {
  constructor(message, status, code, retryAfter) {
    super(message)
    Object.assign(this, { status, code, retryAfter })
  }
}

export const token = {
  get: () => sessionStorage.getItem("token"),
  set: (text) => sessionStorage.setItem("token", text),
  drop: () => sessionStorage.removeItem("token"),
}

// A Kafka offset has up to 19 digits, more than a JavaScript number holds: where it would be rounded, it stays text.
const digits = (_, value, context) => typeof value === "number" && !Number.isSafeInteger(value) && context?.source ? context.source : value

// call makes a request and returns the decoded answer. It throws a refusal as a Problem with the text of the problem document;
// a 401 also ends the session.
export async function call(method, path, { body, signal, headers } = {}) {
  let response, text
  try {
    response = await fetch(path, {
      method, signal, headers: { Authorization: "Bearer " + (token.get() ?? ""), ...(method !== "GET" && { "Content-Type": "application/json" }), ...headers },
      body: body && JSON.stringify(body),
    })
    text = await response.text()
  } catch (e) {
    if (e.name === "AbortError") throw e
    throw new Problem("The server cannot be reached.", 0, "unreachable")
  }
  let answer = {}
  try { answer = JSON.parse(text, digits) } catch { /* not JSON: the status is enough */ }
  if (response.ok) return answer
  if (response.status === 401) document.dispatchEvent(new CustomEvent("unauthorized"))
  const retryAfter = Number(response.headers.get("Retry-After")) || 0
  const hint = response.status === 429 ? ` Try again in ${retryAfter || 60} s.` : ""
  throw new Problem((answer.detail || answer.title || `The server answered with status ${response.status}.`) + hint, response.status, answer.code, retryAfter)
}

export const get = (path, signal) => call("GET", path, { signal })
export const post = (path, body, headers) => call("POST", path, { body, headers })

// key is an idempotency key. (crypto.randomUUID exists on secure origins only.)
export const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("")

export const pause = (ms) => new Promise((resume) => setTimeout(resume, ms))
