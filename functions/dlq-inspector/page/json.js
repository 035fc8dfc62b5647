// JSON as text: numbers are never converted to JavaScript numbers, so that every digit is kept. There is no recursion, because a
// hostile value may be nested to any depth.

const space = (c) => c === 32 || c === 10 || c === 13 || c === 9
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const word = /true|false|null/y
const escape = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

class Fault extends Error {
  constructor(at, message) { super(message); this.at = at }
}

// stringEnd returns the index after the string that begins at i.
function stringEnd(text, i) {
  for (let j = i + 1; j < text.length;) {
    const c = text.charCodeAt(j)
    if (c === 34) return j + 1
    if (c < 32) throw new Fault(j, "a string has a control character")
    if (c === 92) {
      escape.lastIndex = j
      if (!escape.test(text)) throw new Fault(j, "a string has an invalid escape")
      j = escape.lastIndex
    } else j++
  }
  throw new Fault(i, "a string is not closed")
}

// tokenEnd returns the index after the token that begins at i.
function tokenEnd(text, i) {
  const c = text.charCodeAt(i)
  if (c === 34) return stringEnd(text, i)
  if (c === 123 || c === 125 || c === 91 || c === 93 || c === 58 || c === 44) return i + 1
  const pattern = c === 45 || c >= 48 && c <= 57 ? number : word
  pattern.lastIndex = i
  if (!pattern.test(text)) throw new Fault(i, "this is not a JSON value")
  return pattern.lastIndex
}

// walk reads one JSON value and calls on(kind, start, end, depth) for each token. It throws a Fault with the position of the error.
function walk(text, on) {
  const open = [] // "{" or "["
  let want = "value" // value, first (value or end), name, firstName (name or end), colon, next (comma or end), end
  for (let start = 0, end = 0; start < text.length; start = end) {
    if (space(text.charCodeAt(start))) { end = start + 1; continue }
    end = tokenEnd(text, start)
    const c = text[start]
    const inObject = open.at(-1) === "{"
    let kind = "value"
    if ((want === "first" && c === "]") || (want === "firstName" && c === "}") || (want === "next" && c === (inObject ? "}" : "]"))) {
      open.pop(); kind = "close"; want = open.length ? "next" : "end"
    } else if (want === "next" && c === ",") { kind = "comma"; want = inObject ? "name" : "value" }
    else if (want === "colon" && c === ":") { kind = "colon"; want = "value" }
    else if ((want === "name" || want === "firstName") && c === '"') { kind = "name"; want = "colon" }
    else if ((want === "value" || want === "first") && (c === "{" || c === "[")) { open.push(c); kind = "open"; want = c === "{" ? "firstName" : "first" }
    else if ((want === "value" || want === "first") && !"]}:,".includes(c)) want = open.length ? "next" : "end"
    else throw new Fault(start, want === "end" ? "there is text after the value" : `${want === "colon" ? "a colon" : want.toLowerCase().includes("name") ? "a member's name" : want === "next" ? "a comma or a closing bracket" : "a value"} is missing here`)
    on(kind, start, end, open.length)
  }
  if (want !== "end") throw new Fault(text.length, text.trim() === "" ? "the value is empty" : "the value is incomplete")
}

const deepest = 100 // levels that are indented: more would grow with the square of the depth

// pretty indents JSON. It returns null if the text is not JSON or is nested too deeply.
export function pretty(text) {
  const out = []
  const line = (depth) => "\n" + "  ".repeat(depth)
  let last = ""
  try {
    walk(text, (kind, start, end, depth) => {
      if (depth > deepest) throw new Fault(start, "nested too deeply")
      if (kind === "close" ? last !== "open" : last === "comma" || last === "open") out.push(line(depth - (kind === "open" ? 1 : 0)))
      out.push(text.slice(start, end))
      if (kind === "colon") out.push(" ")
      last = kind
    })
  } catch (e) {
    if (e instanceof Fault) return null
    throw e
  }
  return out.join("")
}

// sorted is pretty with the members of every object sorted by name, so that two values can be compared whatever order they were written in.
export function sorted(text) {
  const open = [{ items: [] }]
  const put = (value) => open.at(-1).items.push([open.at(-1).name, value])
  try {
    walk(text, (kind, start, end, depth) => {
      if (depth > deepest) throw new Fault(start, "nested too deeply")
      const raw = text.slice(start, end)
      if (kind === "open") open.push({ bracket: raw, items: [] })
      else if (kind === "name") open.at(-1).name = raw
      else if (kind === "value") put(raw)
      else if (kind === "close") {
        const { bracket, items } = open.pop()
        if (bracket === "{") items.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
        put(bracket + items.map(([name, value]) => name ? `${name}:${value}` : value).join() + raw)
      }
    })
  } catch (e) {
    if (e instanceof Fault) return null
    throw e
  }
  return pretty(open[0].items[0][1])
}

// members returns the raw texts of an object's members, the last one if a name repeats: { members } or { fault: { at, message } }.
export function members(text) {
  const out = new Map()
  let name = "", from = -1, first = ""
  try {
    walk(text, (kind, start, end, depth) => {
      first ||= text[start]
      if (depth === 1 && kind === "name") { name = JSON.parse(text.slice(start, end)); from = -1 }
      else if (kind === "colon" || kind === "comma") { if (depth === 1 && kind === "colon") from = end }
      else if (from >= 0 && depth === 1 && (kind === "value" || kind === "close")) out.set(name, text.slice(from, end).trim())
    })
  } catch (e) {
    if (e instanceof Fault) return { fault: { at: e.at, message: e.message } }
    throw e
  }
  return first === "{" ? { members: out } : { fault: { at: 0, message: "the value is not a JSON object" } }
}

// place describes the position of an index in a text.
export function place(text, at) {
  const before = text.slice(0, at)
  const lines = before.split(/\r\n|\n|\r/)
  return lines.length > 1 ? `line ${lines.length}, column ${lines.at(-1).length + 1}` : `character ${at + 1}`
}
