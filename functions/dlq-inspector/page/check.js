// Checks a price event while it is being typed. The function has the last word; this only saves a round trip.
import { members, place } from "./json.js"

const text = (raw) => raw?.startsWith('"') ? JSON.parse(raw) : undefined

function price(raw) {
  if (raw === undefined) return '"price" is missing'
  const m = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(raw)
  if (!m) return '"price" must be a number' + (raw.startsWith('"') ? ", not a string" : "")
  const [, sign, whole, fraction = "", exponent = "0"] = m
  const digits = (whole + fraction).replace(/^0+/, "")
  if (sign || digits === "") return '"price" must be greater than 0'
  const point = digits.length - fraction.length + Number(exponent) // position of the point among the digits
  const after = digits.replace(/0+$/, "").length - point
  return point > 20 || after > 18 ? '"price" has more than 20 digits before or 18 after the point' : ""
}

function timestamp(value, now) {
  const m = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(value ?? "")
  const at = m ? Date.parse(m[1] + "T" + m[2] + (m[3] ?? "").slice(0, 4) + m[4]) : NaN
  if (Number.isNaN(at)) return '"timestamp" must be RFC 3339, such as "2024-03-20T10:30:00Z"'
  if (at < 0) return '"timestamp" is before 1970'
  return at > now + 864e5 ? '"timestamp" is more than 24 hours ahead' : ""
}

// faults lists what a function would object to. An empty list means that the value looks like a price event.
export function faults(value, now = Date.now()) {
  const { members: found, fault } = members(value)
  if (fault) return [fault.at === 0 && fault.message.includes("object") ? "The value is not a JSON object" : `Not JSON at ${place(value, fault.at)}: ${fault.message}`]
  const strings = Object.fromEntries(["symbol", "timestamp", "source", "raw_response_id"].map((n) => [n, text(found.get(n))]))
  return [
    ...Object.entries(strings).filter(([, v]) => v === undefined).map(([n]) => found.has(n) ? `"${n}" must be a string` : `"${n}" is missing`),
    price(found.get("price")),
    strings.symbol !== undefined && !/^[A-Za-z0-9.^=/:_&+-]{1,32}$/.test(strings.symbol) && '"symbol" must be 1 to 32 of A-Z 0-9 . - ^ = / : _ & +',
    strings.source !== undefined && !/^[a-z0-9_-]{1,32}$/.test(strings.source) && '"source" must be 1 to 32 of a-z 0-9 _ -',
    strings.timestamp !== undefined && timestamp(strings.timestamp, now),
    strings.raw_response_id !== undefined && !/^(urn:uuid:)?\{?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\}?$/i.test(strings.raw_response_id) && '"raw_response_id" must be a UUID',
  ].filter(Boolean)
}
