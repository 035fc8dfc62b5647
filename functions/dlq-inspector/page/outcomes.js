// How bulk work is shown: its title, its letters, its outcomes as a bar with a legend, and how far it is.
import { count, h, plural, safe } from "./dom.js"
import { describe } from "./state.js"

export const running = (w) => w.status === "running"

// good is how many letters are settled, or of a plan would be.
export const good = (w) => ["resolved", "sent", "discarded"].reduce((sum, o) => sum + (w.outcomes[o] ?? 0), 0)

const words = {
  resolved: ["accepted", "would be accepted", "The function takes the event, and the letter is resolved."],
  refused: ["refused", "would be refused", "The function refuses the event again; the letter stays open."],
  sent: ["sent", "would be sent", "An exact copy goes to the original topic."],
  discarded: ["discarded", "would be discarded", "The letter is set aside, and can be restored."],
  skipped: ["skipped", "would be skipped", "The letter does not change."],
}
export const word = (outcome, plan) => words[outcome]?.[plan ? 1 : 0] ?? outcome

// What codes of skipped letters mean. Other codes are the function's own, and each verdict has its reason.
const meanings = {
  not_open: "settled meanwhile, or another replay has them", message_not_found: "no letter has the id",
  replay_limit: "have used up their replays, and force replays them once more", not_exact: "are no exact copies, which a topic needs",
  no_verdict: "the function gave no verdict", body_too_large: "are too large for the topic",
  inexact: "the transform would lose digits", transform_failed: "the transform fails, or has not exactly one result",
}

const nonzero = (counts) => Object.entries(counts ?? {}).filter(([, n]) => n > 0)
export const outcomes = (w) => nonzero(w.outcomes)
export const reasons = (w) => nonzero(w.reasons).sort((a, b) => b[1] - a[1])

const inWords = (w) => outcomes(w).map(([o, n]) => `${count(n)} ${word(o, w.dry_run)}`).join(", ") || "nothing yet"

// bar shows the outcomes of the letters, as shares of all that were selected.
export function bar(w) {
  const e = h("div", { class: "verdicts", role: "img", "aria-label": `${inWords(w)}, of ${count(w.matched)}` })
  for (const [outcome, n] of outcomes(w)) {
    const part = h("span", { class: outcome })
    part.style.width = `${100 * n / Math.max(w.matched, w.done)}%`
    e.append(part)
  }
  return e
}

// legend explains the parts of the bar, and the codes of what was refused or skipped.
export function legend(w) {
  const codes = reasons(w)
  return [
    h("ul", { class: "legend" }, outcomes(w).map(([o, n]) => h("li", {}, h("span", { class: "swatch " + o, "aria-hidden": true }), h("span", {}, h("strong", {}, `${count(n)} ${word(o, w.dry_run)}`), " ", h("span", { class: "quiet" }, words[o]?.[2]))))),
    codes.length > 0 && h("p", { class: "quiet" }, "Refused or skipped: ", codes.slice(0, 10).map(([code, n], i) => [i > 0 && "; ", `${count(n)} × `, h("code", {}, safe(code, 200)), meanings[code] && ` (${meanings[code]})`]).flat()),
  ]
}

function timeLeft(w) {
  const seconds = (Date.now() - Date.parse(w.created_at)) / 1000
  const rate = w.done / Math.max(seconds, 1)
  const left = (w.matched - w.done) / rate
  if (!running(w) || !Number.isFinite(left)) return ""
  const text = left < 90 ? `${Math.ceil(left)} s` : left < 5400 ? `${Math.ceil(left / 60)} min` : `${Math.ceil(left / 3600)} h`
  return `${rate < 0.1 ? "less than 0.1" : rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} letters per second, about ${text} left`
}

// progress says how far the work is, and why it is paused or ended early.
export const progress = (w) => [
  h("p", {}, `${count(w.done)} of ${count(w.matched)}: ${inWords(w)}. `, h("span", { class: "quiet" }, timeLeft(w))),
  w.trouble && running(w) && h("p", { class: "warning" }, "Paused briefly: ", safe(w.trouble)),
  w.stop_reason && h("p", { class: "bad" }, "Stopped automatically: ", safe(w.stop_reason)),
  w.cancelled_by && h("p", { class: "quiet" }, "Stopped by ", safe(w.cancelled_by, 100)),
]

export function title(w) {
  const name = w.action === "discard" ? "Discard" : w.target === "topic" ? "Copies to the topic" : "Replay"
  return `${w.dry_run ? `Plan: ${name.toLowerCase()}` : name} of ${plural(w.matched, "letter")}`
}

// selected names the letters: how many were chosen in the list, or the filter.
export function selected(w) {
  if (w.selection === "ids") return `${plural(w.matched, "letter")}, chosen in the list`
  const filter = describe(w.filter)
  return filter.length ? safe(filter.join(" · "), 600) : "all open letters"
}
