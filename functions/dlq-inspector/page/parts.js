// Long texts are shown and edited in parts: a browser lays out a few kilobytes at once, and a megabyte in a second.

export const size = 16384

// partEnd returns the end of the part that begins at from: after a line end or a comma if there is one nearby, never within a
// surrogate pair or a CRLF.
export function partEnd(text, from, most = size) {
  if (text.length - from <= most * 1.25) return text.length
  let end = from + most
  for (const edge of ["\n", ","]) {
    const at = text.lastIndexOf(edge, end - 1)
    if (at >= end - most / 8) return at + 1
  }
  if (text[end - 1] === "\r" && text[end] === "\n") end++
  if (text.charCodeAt(end - 1) >> 10 === 0x36) end++ // high surrogate
  return end
}

// starts lists where the parts of a text begin.
export function starts(text, most = size) {
  const out = [0]
  for (let end = partEnd(text, 0, most); end < text.length; end = partEnd(text, end, most)) out.push(end)
  return out
}

// restore returns the text that an edited text area stands for. A text area turns CRLF and CR into LF; untouched line ends are
// restored.
export function restore(raw, edited) {
  const shown = lf(raw)
  if (edited === shown) return raw
  const least = Math.min(shown.length, edited.length)
  let head = 0, tail = 0
  while (head < least && shown[head] === edited[head]) head++
  while (tail < least - head && shown[shown.length - 1 - tail] === edited[edited.length - 1 - tail]) tail++
  const lineEnd = raw.includes("\r\n") ? "\r\n" : raw.includes("\r") && !raw.includes("\n") ? "\r" : "\n"
  const out = raw.slice(0, index(raw, head)) + edited.slice(head, edited.length - tail).replaceAll("\n", lineEnd) + raw.slice(index(raw, shown.length - tail))
  return lf(out) === edited ? out : edited.replaceAll("\n", lineEnd) // a CR and an LF met and became one line end
}

export const lf = (text) => text.replace(/\r\n?/g, "\n")

// index turns an index of the shown text into one of the raw text.
function index(raw, shown) {
  let i = 0
  for (let n = 0; n < shown; n++) i += raw[i] === "\r" && raw[i + 1] === "\n" ? 2 : 1
  return i
}

// --- bytes

export const bytesOf = (value, encoding) => encoding === "base64" ? Uint8Array.from(atob(value), (c) => c.charCodeAt(0)) : new TextEncoder().encode(value)

// textOf returns a value as text. Bytes that are no text become the closest one.
export const textOf = (value, encoding) => encoding === "base64" ? new TextDecoder().decode(bytesOf(value, encoding)) : value ?? ""

export function base64(bytes) {
  let out = ""
  for (let i = 0; i < bytes.length; i += 32768) out += String.fromCharCode(...bytes.subarray(i, i + 32768))
  return btoa(out)
}

export function hex(bytes, from = 0, to = bytes.length) {
  const lines = []
  for (let i = from; i < to; i += 16) {
    const row = [...bytes.subarray(i, Math.min(i + 16, to))]
    const pairs = row.map((b) => b.toString(16).padStart(2, "0"))
    const print = row.map((b) => b >= 32 && b < 127 ? String.fromCharCode(b) : ".").join("")
    lines.push(`${i.toString(16).padStart(8, "0")}  ${pairs.slice(0, 8).join(" ").padEnd(23)}  ${pairs.slice(8).join(" ").padEnd(23)}  ${print}`)
  }
  return lines.join("\n")
}
