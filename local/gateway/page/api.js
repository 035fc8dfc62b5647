// Requests to the API. The page never asks for /prices/latest: that would spend the visitor's five requests a minute.

export class Problem extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message)
    Object.assign(this, { status, retryAfter })
  }
}

// Prices and averages are exact decimals, of more digits than a JavaScript number holds: they stay text.
const exact = (key, value, context) => (key === "price" || key === "average") && typeof value === "number" ? context?.source ?? String(value) : value

// parse reads JSON with every digit of prices and averages.
export const parse = (text) => JSON.parse(text, exact)

const patience = 15000 // ms

export async function get(path) {
  let response, text
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(patience) })
    text = await response.text()
  } catch {
    throw new Problem("The server cannot be reached.", 0)
  }
  let answer = {}
  try { answer = parse(text) } catch { /* not JSON: the status is enough */ }
  if (response.ok) return answer
  throw new Problem(answer.detail || answer.title || `The server answered with status ${response.status}.`, response.status, Number(response.headers.get("Retry-After")) || 0)
}

// all reads the pages of a list, but not for ever.
export async function all(path, member, pages = 5) {
  const out = []
  let token = ""
  do {
    const answer = await get(`${path}?${new URLSearchParams({ limit: 1000, ...(token && { page_token: token }) })}`)
    out.push(...answer[member])
    token = answer.next_page_token
  } while (token && --pages > 0)
  return out
}
