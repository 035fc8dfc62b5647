// Helpers for building pages. Whatever comes from the server goes into the document as text, never as markup.

export const $ = (id) => document.getElementById(id)

// h makes an element. Properties: class, data (dataset), on<event> (listener), anything else is an attribute; null, undefined
// and false leave an attribute or a child out.
export function h(tag, properties = {}, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue
    if (name === "class") e.className = value
    else if (name === "data") Object.assign(e.dataset, value)
    else if (name.startsWith("on")) e.addEventListener(name.slice(2), value)
    else e.setAttribute(name, value === true ? "" : value)
  }
  e.append(...some(children))
  return e
}

const some = (children) => children.flat().filter((c) => c !== null && c !== undefined && c !== false)

// fill replaces the content of an element.
export const fill = (e, ...children) => e.replaceChildren(...some(children))

export const button = (text, action, properties = {}) => h("button", { type: "button", onclick: action, ...properties }, text)

// --- deceptive text

// Characters that are invisible, that change the direction of the text around them, or that look like a plain space.
const odd = /[\u0000-\u0008\u000B-\u001F\u007F-\u00A0\u00AD\u034F\u061C\u115F\u1160\u1680\u17B4\u17B5\u180B-\u180F\u2000-\u200F\u2028-\u202F\u205F-\u206F\u2800\u3000\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB\u{E0000}-\u{E0FFF}]/gu

const code = (c) => "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")
const names = {
  "U+000D": "CR", "U+00A0": "no-break space", "U+200B": "zero-width space", "U+200D": "zero-width joiner", "U+200E": "LRM", "U+200F": "RLM",
  "U+202A": "LRE", "U+202B": "RLE", "U+202C": "PDF", "U+202D": "LRO", "U+202E": "RLO", "U+2066": "LRI", "U+2067": "RLI", "U+2068": "FSI", "U+2069": "PDI", "U+FEFF": "BOM",
}
const nameOf = (c) => names[code(c)] ? `${code(c)} ${names[code(c)]}` : code(c)

// marked returns text with every odd character replaced by a visible mark. In the stylesheet, class "exact" also switches the
// reordering of right-to-left text off.
export function marked(text) {
  const out = document.createDocumentFragment()
  let end = 0
  for (const m of text.matchAll(odd)) {
    out.append(text.slice(end, m.index), h("span", { class: "mark", title: "invisible or direction-changing character" }, nameOf(m[0])))
    end = m.index + m[0].length
  }
  out.append(text.slice(end))
  return out
}

// safe is marked text in an element of its own, cut to a length.
export function safe(text, most = 2000) {
  const short = text.length > most ? text.slice(0, most) : text
  return h("bdi", { class: "exact", dir: "ltr" }, marked(short), short.length < text.length && h("span", { class: "quiet" }, ` … ${count(text.length - short.length)} more characters`))
}

// oddities names the odd characters of a text, with how often each occurs.
export function oddities(text) {
  const found = new Map()
  for (const m of text.matchAll(odd)) if (m[0] !== "\r") found.set(nameOf(m[0]), (found.get(nameOf(m[0])) ?? 0) + 1)
  return [...found].map(([name, n]) => `${name} × ${count(n)}`)
}

export const count = (n) => Number(n).toLocaleString("en-US")
export const plural = (n, one, many = one + "s") => `${count(n)} ${Number(n) === 1 ? one : many}`

// --- times: always in UTC, and labelled so

// utc formats an RFC 3339 time without converting it to a Date, which would lose digits and some years.
export const utc = (iso) => (iso ?? "").replace("T", " ").replace(/Z$/, " UTC")
const toSecond = (iso) => utc(iso).replace(/\.\d+/, "")

export function ago(iso, now = Date.now()) {
  const seconds = Math.round((now - Date.parse(iso)) / 1000)
  if (Number.isNaN(seconds)) return utc(iso)
  if (seconds < -60) return toSecond(iso) // our clock is behind, or the time is in the future
  if (seconds < 5) return "now"
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`
}

const unknown = () => h("span", { class: "quiet" }, "unknown")

export const when = (iso) => iso ? h("time", { datetime: iso, title: utc(iso), data: { relative: "" } }, ago(iso)) : unknown()
export const exactly = (iso) => iso ? h("time", { datetime: iso, title: utc(iso) }, toSecond(iso)) : unknown()

export function refreshTimes() {
  for (const e of document.querySelectorAll("time[data-relative]")) {
    const text = ago(e.dateTime)
    if (e.textContent !== text) e.textContent = text
  }
}
