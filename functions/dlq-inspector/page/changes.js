// Shows the difference between two texts: what changed, with some context.
import { count, h, marked, plural } from "./dom.js"

const around = 120 // characters of context
const least = 80 // characters that are left out: fewer are shown
const longest = 4000 // of one change
const most = 100 // changes that are shown

const visible = (text) => text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t")

function piece(tag, text) {
  const cut = text.length > longest
  return h(tag, {}, marked(visible(cut ? text.slice(0, longest) : text)), cut && h("em", {}, ` … ${count(text.length - longest)} more characters `))
}

// changes turns the pieces of diff into an element, which a screen reader calls by its label.
export function changes(pieces, label = "Changes") {
  const edits = pieces.filter(([sign]) => sign !== "=")
  if (edits.length === 0) return h("p", { class: "quiet" }, "No changes.")
  const out = h("pre", { class: "value exact diff", tabindex: 0, role: "region", "aria-label": label, dir: "ltr" })
  let shown = 0
  pieces.forEach(([sign, text], i) => {
    if (shown >= most && sign !== "=") return
    if (sign === "-") { out.append(piece("del", text)); shown++ }
    else if (sign === "+") { out.append(piece("ins", text)); shown++ }
    else if (shown < most) out.append(context(text, i === 0, i === pieces.length - 1))
  })
  return h("div", {}, out, edits.length > most && h("p", { class: "quiet" }, `${plural(edits.length - most, "more change is", "more changes are")} not shown.`))
}

function context(text, isFirst, isLast) {
  const head = isFirst ? "" : text.slice(0, around), tail = isLast ? "" : text.slice(-around)
  if (text.length < (isFirst || isLast ? around : 2 * around) + least) return marked(text)
  const gap = h("span", { class: "gap" }, `\n … ${count(text.length - head.length - tail.length)} unchanged characters … \n`)
  return h("span", {}, marked(head), gap, marked(tail))
}
