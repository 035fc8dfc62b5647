// Exact decimals as text. What is shown may be rounded; the exact digits are then one hover away.

const decimals = (text) => (text.split(".")[1] ?? "").length

// places is how many decimals the price of a series is shown with, and so its averages.
export const places = (price) => Math.min(Math.max(decimals(price), 2), 8)

// rounded rounds half up to a number of decimals, in exact arithmetic, and groups thousands.
export function rounded(text, most) {
  const [whole, part = ""] = text.split(".")
  let n = BigInt(whole + part.slice(0, most).padEnd(most, "0"))
  if (part[most] >= "5") n++
  const digits = n.toString().padStart(most + 1, "0"), point = digits.length - most
  return digits.slice(0, point).replace(/\B(?=(\d{3})+$)/g, ",") + (most ? "." + digits.slice(point) : "")
}

// percent returns the change from one price to another, with its sign.
export function percent(from, to) {
  const change = 100 * (to - from) / from
  const text = Math.abs(change).toFixed(Math.abs(change) < 100 ? 2 : 0)
  return { text: `${Number(text) === 0 ? "±" : change > 0 ? "+" : "−"}${text} %`, sign: Number(text) === 0 ? 0 : Math.sign(change) }
}
