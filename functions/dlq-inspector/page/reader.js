// A read-only view of a text of any length, in parts, with a search over all of them.
import { button, count, h, marked } from "./dom.js"
import { hex, starts } from "./parts.js"

const hexPart = 4096 // bytes

// reader returns an element that shows a text, or bytes in hex.
export function reader(content, label) {
  const binary = typeof content !== "string"
  const parts = binary ? Array.from({ length: Math.max(1, Math.ceil(content.length / hexPart)) }, (_, i) => i * hexPart) : starts(content)
  let part = 0
  const out = h("pre", { class: "value exact", tabindex: 0, role: "region", "aria-label": label, dir: "ltr" })
  const end = (i) => parts[i + 1] ?? content.length
  const where = h("span", { class: "quiet", role: "status" })

  function show(i, found) {
    part = Math.max(0, Math.min(i, parts.length - 1))
    const from = parts[part]
    if (binary) out.replaceChildren(hex(content, from, end(part)))
    else if (!found) out.replaceChildren(marked(content.slice(from, end(part))))
    else out.replaceChildren(marked(content.slice(from, found.at)), h("mark", {}, marked(content.slice(found.at, found.at + found.length))), marked(content.slice(found.at + found.length, Math.max(end(part), found.at + found.length))))
    where.textContent = `${binary ? "bytes" : "characters"} ${count(from)} to ${count(end(part))} of ${count(content.length)}`
    first.disabled = previous.disabled = part === 0
    next.disabled = final.disabled = part === parts.length - 1
    out.scrollTop = 0
    out.querySelector("mark")?.scrollIntoView({ block: "nearest" })
  }

  let at = -1
  const find = h("input", { type: "search", "aria-label": "Find in the value", placeholder: "Find", class: "find" })
  function search() {
    if (!find.value) return
    at = content.indexOf(find.value, at + 1)
    if (at < 0) { where.textContent = "No more matches; the next search starts at the beginning."; return }
    const i = parts.findLastIndex((p) => p <= at)
    show(i, { at, length: find.value.length })
  }
  find.addEventListener("input", () => { at = -1 })
  find.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); search() } })

  const first = button("First", () => show(0)), previous = button("Previous", () => show(part - 1))
  const next = button("Next", () => show(part + 1)), final = button("Last", () => show(parts.length - 1))
  const bar = parts.length > 1 && h("div", { class: "parts" }, first, previous, next, final, !binary && find, !binary && button("Find next", search), where)
  show(0)
  return h("div", { class: "reader" }, bar, out)
}
